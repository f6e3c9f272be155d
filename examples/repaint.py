"""Draw a picture, then repaint its upper half: `python examples/repaint.py`. Needs a running server."""

from __future__ import annotations

from PIL import Image

from safelight.client import Client


def main() -> None:
    """Write day.png and night.png; below the blurred edge of the mask they are the same."""
    with Client() as client:
        day = client.generate("a red house on green hills under a blue sky", seed=7, steps=12)
        picture = day.image()
        mask = Image.new("L", picture.size)
        mask.paste(255, (0, 0, picture.width, picture.height // 2))
        night = client.inpaint(picture, mask, "a starry night sky with a full moon", seed=7, steps=12, strength=1.0)
    print(day.save("day.png"), night.save("night.png"))


if __name__ == "__main__":
    main()
