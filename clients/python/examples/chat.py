"""A conversation in the terminal, on the package.

usage: chat.py ADDRESS [CERTS_DIR]      (an empty line or Ctrl-D ends it, Ctrl-C an answer)
"""
import sys

import pregate

if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
messages: list[pregate.Message] = []
with pregate.Client(sys.argv[1], certs=sys.argv[2] if len(sys.argv) == 3 else None) as client:
    print(client.model_info().model)
    while line := sys.stdin.readline().strip():
        messages.append({"role": "user", "content": line})
        with client.chat(messages, max_tokens=256) as answer:
            try:
                for chunk in answer:
                    print(chunk.text, end="", flush=True)
            except KeyboardInterrupt:
                pass
            except pregate.PregateError as error:
                sys.exit(f"\n{error}")
        print()
        messages.append({"role": "assistant", "content": answer.text})
