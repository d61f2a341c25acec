"""The command line. `main` is the door; each command lives in its own module and is imported when it is called."""
