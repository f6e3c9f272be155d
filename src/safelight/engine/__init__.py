"""The engine: pixels. The only room that imports torch and diffusers; it knows no HTTP and no database."""
