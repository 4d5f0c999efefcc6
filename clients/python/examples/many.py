"""Answers a file of prompts, several at a time, on the asyncio client; each line of the output is JSON.

usage: many.py ADDRESS FILE [AT_ONCE] [MAX_TOKENS]
"""
import asyncio
import json
import pathlib
import sys

import pregate


async def answer(client: pregate.AsyncClient, places: asyncio.Semaphore, number: int, prompt: str, max_tokens: int) -> None:
    async with places:
        try:
            done = await client.generate(prompt, max_tokens=max_tokens).result()
            line = {"prompt": number, "text": done.text, "tokens": done.tokens, "routes": done.routes}
        except pregate.PregateError as error:
            line = {"prompt": number, "error": str(error)}
    print(json.dumps(line), flush=True)


async def main(address: str, file: str, at_once: str = "8", max_tokens: str = "64") -> None:
    places = asyncio.Semaphore(int(at_once))
    prompts = pathlib.Path(file).read_text().splitlines()
    async with pregate.AsyncClient(address, timeout_s=600) as client:
        await asyncio.gather(*(answer(client, places, n, p, int(max_tokens)) for n, p in enumerate(prompts)))


if not 3 <= len(sys.argv) <= 5:
    sys.exit(__doc__)
asyncio.run(main(*sys.argv[1:]))
