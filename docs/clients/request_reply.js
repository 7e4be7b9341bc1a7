#!/usr/bin/env node
// Many requests at once with KafkaJS: each reply settles the promise that asked.
//
//   npm install kafkajs
//   node docs/clients/request_reply.js [REQUESTS] [USERS]
//
// OPPU_KAFKA_BOOTSTRAP_SERVERS names the brokers (default localhost:9092). Prints a line for each reply: user, request
// and output; exits 1 where a reply is an error, is another request's, or does not come.
"use strict";
const { randomUUID } = require("node:crypto");
const { Kafka, logLevel } = require("kafkajs");

const brokers = (process.env.OPPU_KAFKA_BOOTSTRAP_SERVERS ?? "localhost:9092").split(",");
const [requests, users] = [Number(process.argv[2] ?? 8), Number(process.argv[3] ?? 4)];
const replyTopic = "personalization-replies";
const timeout = 60_000;

const kafka = new Kafka({ clientId: "example", brokers, logLevel: logLevel.ERROR });
const producer = kafka.producer({ idempotent: true });
const consumer = kafka.consumer({ groupId: `example-${randomUUID()}` });
/** Those who wait for a reply, by correlation id. */
const waiting = new Map();

async function start() {
  const admin = kafka.admin();
  await admin.connect();
  // Where the topic ends before the first request is sent, so no reply can slip past.
  const ends = await admin.fetchTopicOffsets(replyTopic);
  await admin.disconnect();
  await producer.connect();
  await consumer.connect();
  await consumer.subscribe({ topic: replyTopic });
  const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
  await consumer.run({
    autoCommit: false, // replies are for who asked now; nobody reads them later
    eachMessage: async ({ message }) => {
      const id = message.headers["correlation-id"]?.toString();
      // A reply may come twice after a crash of a worker; the first one counts.
      waiting.get(id)?.(JSON.parse(message.value.toString()));
      waiting.delete(id);
    },
  });
  await joined;
  for (const { partition, high } of ends) consumer.seek({ topic: replyTopic, partition, offset: high });
}

async function ask(request) {
  const id = randomUUID();
  const reply = new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no reply to ${request.request_id} within ${timeout / 1000} s`)), timeout);
    waiting.set(id, (value) => { clearTimeout(timer); resolve(value); });
  });
  await producer.send({
    topic: "personalization-requests",
    acks: -1,
    messages: [{
      key: request.user_id, value: JSON.stringify(request),
      headers: { "reply-to": replyTopic, "correlation-id": id },
    }],
  });
  return reply;
}

async function one(number) {
  const request = {
    request_id: randomUUID(), user_id: `user-${number % users}`, task: "film_tag",
    input: { film: "The Winter Bridge (1995): orphaned brothers say a last farewell" },
    options: { deadline_ms: timeout },
  };
  const reply = await ask(request);
  if (reply.request_id !== request.request_id || reply.user_id !== request.user_id) {
    throw new Error(`the reply to ${request.request_id} is another's: ${JSON.stringify(reply)}`);
  }
  if (reply.status !== "ok") throw new Error(`${request.request_id}: ${JSON.stringify(reply.error)}`);
  console.log(reply.user_id, reply.request_id, reply.output);
}

async function main() {
  await start();
  const results = await Promise.allSettled(Array.from({ length: requests }, (_, number) => one(number)));
  await consumer.disconnect();
  await producer.disconnect();
  for (const { reason } of results.filter(({ status }) => status === "rejected")) {
    console.error(reason.message);
    process.exitCode = 1;
  }
}

main().catch((error) => { console.error(error.message); process.exit(1); });
