"""`webhook listen|sign|verify`: what somebody needs who builds the receiving end."""
