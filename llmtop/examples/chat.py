"""Chat: a conversation of several turns, with time to read between them.

    llmtop http://127.0.0.1:8000 --users chat

Each turn sends all that was said before, the model's own answers too: a server with a prefix cache computes only what
is new. The slider of prompt tokens is the first message, that of output tokens every answer.
"""

from llmtop.users import User

TURNS = 4
FOLLOW_UP_TOKENS = 48
READ_S = 2.0
"""How long a user reads and types, on average."""


async def run(user: User) -> None:
    answer = await user.chat(user.text(user.prompt_tokens), name="first")
    for _ in range(TURNS - 1):
        if not answer.ok:
            return
        await user.pause(user.random.uniform(0.5, 1.5) * READ_S)
        answer = await user.chat(user.text(FOLLOW_UP_TOKENS), after=answer, name="follow-up")
