"""The demo: a story in chapters, told live on real parts. Each chapter checks what it shows.

A later chapter is a module with `tell(stage, scene)` and a line in `story.CHAPTERS`.
"""
