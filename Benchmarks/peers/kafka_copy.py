#!/usr/bin/env python3
"""A consumer as one writes it in Python: events from a topic into behavior_events by COPY, offsets committed after. Prints JSON.

It checks what it must to fill the columns, and neither deduplicates nor stores its position with the rows: at least once."""
import argparse
import json
import time

import confluent_kafka
import psycopg

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--bootstrap-servers", required=True)
parser.add_argument("--topic", required=True)
parser.add_argument("--database", required=True, help="libpq's URI; the table is there and empty")
parser.add_argument("--events", type=int, required=True)
parser.add_argument("--batch", type=int, default=10000)
options = parser.parse_args()

consumer = confluent_kafka.Consumer({
    "bootstrap.servers": options.bootstrap_servers, "group.id": f"peer-{time.time()}", "auto.offset.reset": "earliest",
    "enable.auto.commit": False, "isolation.level": "read_committed",
})
consumer.subscribe([options.topic])
ordinals: dict[tuple[str, str], int] = {}
COLUMNS = ("user_id", "task", "ordinal", "event_id", "kind", "occurred_at", "input", "output", "topic", "partition", '"offset"')
COPY = f"COPY behavior_events ({', '.join(COLUMNS)}) FROM STDIN"

begin, stored = None, 0
with psycopg.connect(options.database) as connection:
    while stored < options.events:
        messages = consumer.consume(options.batch, timeout=.2)
        if messages and begin is None:
            begin = time.monotonic()
        with connection.cursor() as cursor, cursor.copy(COPY) as copy:
            for message in messages:
                if message.error():
                    raise SystemExit(str(message.error()))
                event = json.loads(message.value())
                stream = (event["user_id"], event["task"])
                ordinals[stream] = ordinals.get(stream, 0) + 1
                copy.write_row((
                    *stream, ordinals[stream], event["event_id"], event.get("kind", "interaction"), event["occurred_at"],
                    json.dumps(event["input"]), event["output"], message.topic(), message.partition(), message.offset(),
                ))
        connection.commit()
        if messages:
            consumer.commit(asynchronous=False)
        stored += len(messages)
seconds = time.monotonic() - begin
consumer.close()
print(json.dumps({
    "events_per_s": stored / seconds,
    "versions": {"confluent-kafka": confluent_kafka.__version__, "librdkafka": confluent_kafka.libversion()[0], "psycopg": psycopg.__version__},
}))
