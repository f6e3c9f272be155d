"""How the bundled demo model is made: scenes, captions, networks, adapters and the single file that ships."""
