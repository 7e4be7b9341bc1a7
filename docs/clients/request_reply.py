#!/usr/bin/env python3
"""Request and reply with confluent-kafka, with the headers that Spring's ReplyingKafkaTemplate sends.

  pip install confluent-kafka
  docs/clients/request_reply.py --user kim --film "The Winter Bridge (1995): orphaned brothers say a last farewell"
  docs/clients/request_reply.py --user kim --film "…" --adapter none      (the base model's answer)
  docs/clients/request_reply.py --user kim --film "…" --tag nineties      (an event first: the user's own tag)

OPPU_KAFKA_BOOTSTRAP_SERVERS names the broker (default localhost:9092). Prints the reply as JSON; exits 1 on
an error reply and where no reply comes.
"""
import argparse
import json
import os
import struct
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--user", default="kim")
parser.add_argument("--film", default="The Winter Bridge (1995): orphaned brothers say a last farewell")
parser.add_argument("--tag", help="produce a behaviour event with this tag before the request")
parser.add_argument("--adapter", default="active", help="active, none or a version")
parser.add_argument("--reply-topic", default="personalization-replies")
parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for the reply")
args = parser.parse_args()

brokers = os.environ.get("OPPU_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
key = args.user.encode()


def send(producer, topic, value, headers=None):
    """Produces one message and waits until the broker has it."""
    failures = []
    producer.produce(topic, key=key, value=json.dumps(value).encode(), headers=headers,
                     on_delivery=lambda error, _: failures.append(error) if error else None)
    if producer.flush(30) or failures:
        sys.exit(f"{topic}: not delivered: {failures[0] if failures else 'no answer from ' + brokers}")


producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})

# The reader stands at the end of its partition before the request is sent, so no reply can slip past.
partition = 0
consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"example-{uuid.uuid4()}", "enable.auto.commit": False})
place = TopicPartition(args.reply_topic, partition)
_, place.offset = consumer.get_watermark_offsets(place, timeout=30)
consumer.assign([place])

if args.tag:
    send(producer, "user-behavior", {
        "event_id": str(uuid.uuid4()), "user_id": args.user, "task": "film_tag",
        "input": {"film": args.film}, "output": args.tag})

correlation = uuid.uuid4().bytes  # Spring's correlation ids are the 16 bytes of a UUID.
adapter = int(args.adapter) if args.adapter.isdigit() else args.adapter
send(producer, "personalization-requests", {
    "request_id": str(uuid.uuid4()), "user_id": args.user, "task": "film_tag",
    "input": {"film": args.film}, "options": {"adapter": adapter, "deadline_ms": int(args.timeout * 1000)},
}, headers=[
    ("kafka_replyTopic", args.reply_topic.encode()),
    ("kafka_replyPartition", struct.pack(">i", partition)),  # four bytes, most significant first
    ("kafka_correlationId", correlation),
])

deadline = time.monotonic() + args.timeout
while time.monotonic() < deadline:
    message = consumer.poll(0.5)
    if message is None:
        continue
    if message.error():
        sys.exit(f"{args.reply_topic}: {message.error()}")
    if dict(message.headers() or []).get("kafka_correlationId") == correlation:
        reply = json.loads(message.value())
        print(json.dumps(reply, indent=2, ensure_ascii=False))
        consumer.close()
        sys.exit(0 if reply["status"] == "ok" else 1)
consumer.close()
sys.exit(f"no reply within {args.timeout:.0f} s; is a worker with the role infer running?")
