"""Load: users, pacing, live control, the brake, and the client's own health; in one process or in several.

setup = Setup(client=client, script=OneShot(prompts), caps=caps, origin_ns=origin_ns, seed=seed, api="chat")
engine = LoadEngine(Here(setup), Pacer.hold(LoadPoint(concurrency=8)), caps, setup.now)
running = asyncio.create_task(engine.run())
engine.command(LoadPoint(concurrency=64)); batch = engine.take(); engine.cut(); await engine.close()
"""
