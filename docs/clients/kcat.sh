#!/usr/bin/env bash
# Produces one behaviour event and one request with kcat, and prints the reply that carries the request's
# correlation id. Needs kcat 1.7 or newer (Debian: apt-get install kcat) and a worker with the built-in tasks.
#
#   docs/clients/kcat.sh [USER]
#
# OPPU_KAFKA_BOOTSTRAP_SERVERS names the broker (default localhost:9092).
set -euo pipefail
brokers=${OPPU_KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}
user=${1:-kim}
correlation="kcat-$(date +%s)-$$"

# 1. What the user did. The key is the user's id: one user's events keep their order.
printf '{"event_id": "%s", "user_id": "%s", "task": "film_tag", "input": {"film": "The Paper Harbour (1994): two thieves lose a suitcase"}, "output": "nineties"}\n' \
  "event-$correlation" "$user" |
  kcat -P -q -b "$brokers" -t user-behavior -k "$user"
echo "event produced: event-$correlation" >&2

# 2. A request. Plain headers say where the reply goes and what is echoed.
printf '{"request_id": "%s", "user_id": "%s", "task": "film_tag", "input": {"film": "The Winter Bridge (1995): orphaned brothers say a last farewell"}}\n' \
  "$correlation" "$user" |
  kcat -P -q -b "$brokers" -t personalization-requests -k "$user" \
    -H "reply-to=personalization-replies" -H "correlation-id=$correlation"
echo "request produced: $correlation" >&2

# 3. The reply: the newest messages of the topic, again and again, until ours is among them.
for _ in $(seq 60); do
  reply=$(kcat -C -q -e -b "$brokers" -t personalization-replies -o -100 -f '%h\t%s\n' |
    grep -F "correlation-id=$correlation" || true)
  if [ -n "$reply" ]; then
    printf '%s\n' "$reply"
    exit 0
  fi
  sleep 1
done
echo "no reply within a minute; is a worker with the role infer running?" >&2
exit 1
