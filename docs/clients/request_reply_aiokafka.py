#!/usr/bin/env python3
"""Many requests at once with asyncio and aiokafka: each reply wakes the coroutine that asked.

  pip install aiokafka
  docs/clients/request_reply_aiokafka.py --requests 200 --users 50

OPPU_KAFKA_BOOTSTRAP_SERVERS names the broker (default localhost:9092). Prints a line for each reply: user, request
and output; exits 1 where a reply is an error, is another request's, or does not come.
"""
import argparse
import asyncio
import json
import os
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--requests", type=int, default=8)
parser.add_argument("--users", type=int, default=4)
parser.add_argument("--reply-topic", default="personalization-replies")
parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for a reply")
args = parser.parse_args()

brokers = os.environ.get("OPPU_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
FILM = "The Winter Bridge (1995): orphaned brothers say a last farewell"


class Client:
    """Requests, and the futures that wait for their replies, by correlation id."""

    def __init__(self):
        self.waiting = {}

    async def __aenter__(self):
        self.producer = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True)
        # Without a group: this process alone wants these replies, from now on.
        self.consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False)
        await self.producer.start()
        await self.consumer.start()
        partitions = [TopicPartition(args.reply_topic, number)
                      for number in await self.producer.partitions_for(args.reply_topic)]
        self.consumer.assign(partitions)
        # Stands at the end before the first request is sent, so no reply can slip past.
        await self.consumer.seek_to_end(*partitions)
        for partition in partitions:
            await self.consumer.position(partition)
        self.reading = asyncio.create_task(self.read())
        return self

    async def __aexit__(self, *_):
        self.reading.cancel()
        await self.consumer.stop()
        await self.producer.stop()

    async def read(self):
        async for message in self.consumer:
            correlation = dict(message.headers).get("correlation-id")
            # A reply may come twice after a crash of a worker; the first one counts.
            future = self.waiting.pop(correlation, None)
            if future and not future.done():
                future.set_result(json.loads(message.value))

    async def ask(self, request):
        correlation = uuid.uuid4().bytes
        future = self.waiting[correlation] = asyncio.get_running_loop().create_future()
        await self.producer.send_and_wait(
            "personalization-requests", key=request["user_id"].encode(),
            value=json.dumps(request).encode(),
            headers=[("reply-to", args.reply_topic.encode()), ("correlation-id", correlation)])
        return await asyncio.wait_for(future, args.timeout)


async def main():
    async with Client() as client:
        async def one(number):
            request = {
                "request_id": str(uuid.uuid4()), "user_id": f"user-{number % args.users}", "task": "film_tag",
                "input": {"film": FILM}, "options": {"deadline_ms": int(args.timeout * 1000)},
            }
            try:
                reply = await client.ask(request)
            except asyncio.TimeoutError:
                return f"no reply to {request['request_id']} within {args.timeout:.0f} s"
            if (reply["request_id"], reply["user_id"]) != (request["request_id"], request["user_id"]):
                return f"the reply to {request['request_id']} is another's: {reply}"
            if reply["status"] != "ok":
                return f"{request['request_id']}: {reply['error']}"
            print(reply["user_id"], reply["request_id"], reply["output"])

        problems = [problem for problem in await asyncio.gather(*map(one, range(args.requests))) if problem]
    if problems:
        sys.exit("\n".join(problems))


asyncio.run(main())
