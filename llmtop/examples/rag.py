"""RAG: ask for passages over HTTP, then let the model answer from them.

    llmtop http://127.0.0.1:8000 --users rag

As it stands it runs without a search service: SEARCH is a path of the endpoint's own host, so that there is one real
HTTP request of retrieval, and the passages are made up. The slider of prompt tokens is what all of them have together.
Put the URL of your own service there, and take the passages from its reply.
"""

from llmtop.users import User

SEARCH = "/v1/models"
"""Yours: e.g. "http://search:9200/docs/_search"."""
PASSAGES = 4
QUESTION_TOKENS = 24
READ_S = 1.0


async def run(user: User) -> None:
    question = user.text(QUESTION_TOKENS)
    found = await user.http("GET", SEARCH, params={"q": question}, name="search", timeout_s=10)
    if not found.ok:
        return
    # Yours: passages = [hit["_source"]["text"] for hit in found.json()["hits"]["hits"]]
    passages = [user.text(max(1, user.prompt_tokens // PASSAGES)) for _ in range(PASSAGES)]
    said = "\n\n".join(["Answer from these passages alone.", *passages, question])
    answer = await user.chat(said, name="answer")
    if answer.ok and user.random.random() < 0.5:  # half of all users ask once more, and the passages are still there
        await user.pause(READ_S)
        await user.chat("Which passage says so?", after=answer, output_tokens=32, name="source")
