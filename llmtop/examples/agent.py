"""Agent: the model is offered tools, calls some, gets their results, looks things up side by side, and sums up.

    llmtop http://127.0.0.1:8000 --users agent

A model that calls no tool gets a made-up result all the same, so that the load has the shape of an agent's on any
endpoint. Every step sends all steps before it: prompts grow, and most of each is in the prefix cache.
"""

import asyncio

from llmtop.users import Answer, Message, User

STEPS = 3
RESULT_TOKENS = 96
LOOK_UPS = 3
"""Requests of their own that are sent at once."""
TOOL_S = 0.2
"""How long a tool takes."""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the documents.",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
        },
    }
]


async def run(user: User) -> None:
    answer = await user.chat(user.text(user.prompt_tokens), tools=TOOLS, name="plan")
    for _ in range(STEPS):
        if not answer.ok:
            return
        await user.pause(TOOL_S)
        answer = await user.chat(results(user, answer), after=answer, tools=TOOLS, name="step")
    found = await asyncio.gather(*(look_up(user) for _ in range(LOOK_UPS)))
    if answer.ok and all(each.ok for each in found):
        await user.chat("\n\n".join(each.text for each in found), after=answer, name="sum up")


def results(user: User, answer: Answer) -> list[Message]:
    """What the tools gave, one message for each call; of a model that has called none, told by the user."""
    if not answer.tool_calls:
        return [{"role": "user", "content": f"Result of search: {user.text(RESULT_TOKENS)}"}]
    return [
        {"role": "tool", "tool_call_id": call.id, "content": user.text(RESULT_TOKENS)} for call in answer.tool_calls
    ]


async def look_up(user: User) -> Answer:
    return await user.chat(user.text(RESULT_TOKENS), output_tokens=32, name="look-up")
