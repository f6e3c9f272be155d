"""Hand in many prompts at once: `python examples/many.py red blue green`. Their steps share passes on the server."""

from __future__ import annotations

import asyncio
import sys

from safelight.client import AsyncClient


async def main() -> None:
    """Draw a house in every colour that is named."""
    colours = sys.argv[1:] or ["red", "blue", "yellow", "white"]
    async with AsyncClient() as client:
        results = await asyncio.gather(
            *(client.generate(f"a {colour} house on green hills", seed=7, steps=12) for colour in colours)
        )
    for colour, result in zip(colours, results, strict=True):
        print(result.save(f"house-{colour}.png"))


if __name__ == "__main__":
    asyncio.run(main())
