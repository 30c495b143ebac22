// amqplib, everything that its users do. Usage: node flow.js PORT PREFIX (of names). Prints "passed" at the end.
'use strict';
const assert = require('node:assert');
const amqp = require('amqplib');

const [port, prefix] = process.argv.slice(2);
const url = `amqp://guest:guest@127.0.0.1:${port}/`;
let names = 0;
const name = () => `${prefix}-${names++}`;
const event = (emitter, what) => new Promise((resolve) => emitter.once(what, (...given) => resolve(given)));

async function deliveries(channel, queue, count, options) {
  const found = [];
  let finished;
  const all = new Promise((resolve) => { finished = resolve; });
  const { consumerTag } = await channel.consume(queue, (message) => {
    found.push(message);
    if (!options?.noAck) channel.ack(message);
    if (found.length === count) finished();
  }, options);
  await all;
  await channel.cancel(consumerTag);
  return found;
}

async function publishes_and_consumes(connection) {
  const channel = await connection.createConfirmChannel();
  const exchange = name(), queue = name();
  await channel.assertExchange(exchange, 'topic', { durable: false });
  const declared = await channel.assertQueue(queue, { maxLength: 10000, messageTtl: 60000, expires: 60000, maxPriority: 5 });
  assert.deepStrictEqual(declared, { queue, messageCount: 0, consumerCount: 0 });
  await channel.assertQueue(queue, { maxLength: 10000, messageTtl: 60000, expires: 60000, maxPriority: 5 });
  await channel.bindQueue(queue, exchange, 'a.#');
  for (let i = 0; i < 500; i++) channel.publish(exchange, 'a.b', Buffer.from(`${i}`), { persistent: i % 2 === 0 });
  await channel.waitForConfirms();
  await channel.prefetch(20);
  const got = await deliveries(channel, queue, 500);
  assert.deepStrictEqual(got.map((message) => message.content.toString()), [...Array(500).keys()].map(String));
  assert.strictEqual(got[0].fields.exchange, exchange);
  await channel.unbindQueue(queue, exchange, 'a.#');
  await channel.deleteExchange(exchange);
  assert.deepStrictEqual(await channel.deleteQueue(queue), { messageCount: 0 });
  await channel.close();
}

async function carries_properties(connection) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const headers = { text: 'ünï', small: 5, negative: -5, byte: 200, short: 40000, int: 2 ** 31, large: 2 ** 50, float: 1.5, yes: true,
    no: false, nothing: null, list: [1, 'a', null, [true]], table: { a: { b: [1] } }, bytes: Buffer.from([0, 255]),
    time: { '!': 'timestamp', value: 1700000000 }, money: { '!': 'decimal', value: { digits: 125, places: 2 } } };
  const options = { headers, contentType: 'text/plain', contentEncoding: 'utf-8', priority: 3, correlationId: 'c', replyTo: 'r',
    expiration: '60000', messageId: 'm', timestamp: 1700000000, type: 't', userId: 'guest', appId: 'app', deliveryMode: 2 };
  channel.sendToQueue(queue, Buffer.alloc(300000, 'x'), options);
  await channel.waitForConfirms();
  const message = await channel.get(queue, { noAck: true });
  assert.strictEqual(message.content.length, 300000);
  for (const [key, value] of Object.entries(options)) {
    if (key === 'headers') {
      for (const [header, given] of Object.entries(value)) assert.deepStrictEqual(message.properties.headers[header], given, header);
    } else {
      assert.deepStrictEqual(message.properties[key], value, key);
    }
  }
  assert.strictEqual(await channel.get(queue), false);
  await channel.close();
}

async function gives_back(connection) {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const word of ['1', '2', '3']) channel.sendToQueue(queue, Buffer.from(word));
  const held = [];
  while (held.length < 3) {
    const message = await channel.get(queue);
    if (message) held.push(message);
  }
  channel.nack(held[1]);
  channel.reject(held[2], false);
  channel.ack(held[0]);
  const [again] = await deliveries(channel, queue, 1);
  assert.strictEqual(again.content.toString(), '2');
  assert.strictEqual(again.fields.redelivered, true);
  channel.sendToQueue(queue, Buffer.from('4'));
  await channel.checkQueue(queue);
  await channel.recover();
  await channel.close();
}

async function hears_of_returns(connection) {
  const channel = await connection.createConfirmChannel();
  const returned = event(channel, 'return');
  channel.publish('', name(), Buffer.from('lost'), { mandatory: true });
  await channel.waitForConfirms();
  const [message] = await returned;
  assert.strictEqual(message.fields.replyCode, 312);
  assert.strictEqual(message.content.toString(), 'lost');
  await channel.close();
}

async function hears_of_nacks(connection) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true, arguments: { 'x-max-length': 0, 'x-overflow': 'reject-publish' } });
  await assert.rejects(new Promise((resolve, reject) => {
    channel.sendToQueue(queue, Buffer.from('x'), {}, (error) => (error ? reject(error) : resolve()));
  }), /nacked/);
  await channel.close();
}

async function hears_of_errors(connection) {
  for (const [what, code] of [[(channel) => channel.checkQueue(name()), 404], [(channel) => channel.checkExchange(name()), 404],
    [(channel) => channel.assertQueue('amq.mine'), 403], [(channel) => channel.assertExchange('amq.topic', 'fanout'), 406]]) {
    const channel = await connection.createChannel();
    const failed = event(channel, 'error');
    await assert.rejects(what(channel), (error) => error.code === code);
    assert.strictEqual((await failed)[0].code, code);
  }
}

async function hears_that_its_queue_is_gone(connection) {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue(name());
  const cancelled = new Promise((resolve) => channel.consume(queue, (message) => message === null && resolve()));
  await channel.checkQueue(queue);
  const other = await connection.createChannel();
  await other.deleteQueue(queue);
  await cancelled;
  await other.close();
  await channel.close();
}

async function asks_and_is_answered(connection) {
  const server = await connection.createChannel();
  const { queue } = await server.assertQueue('', { exclusive: true });
  await server.consume(queue, (message) => {
    server.sendToQueue(message.properties.replyTo, Buffer.from(`${message.content}!`), { correlationId: message.properties.correlationId });
    server.ack(message);
  });
  const client = await connection.createChannel();
  const answers = new Map();
  await client.consume('amq.rabbitmq.reply-to', (message) => answers.get(message.properties.correlationId)(message.content.toString()),
    { noAck: true });
  const ask = (id) => new Promise((resolve) => {
    answers.set(id, resolve);
    client.sendToQueue(queue, Buffer.from(id), { correlationId: id, replyTo: 'amq.rabbitmq.reply-to' });
  });
  const all = await Promise.all([...Array(50).keys()].map((number) => ask(`${number}`)));
  assert.deepStrictEqual(all, [...Array(50).keys()].map((number) => `${number}!`));
  await client.close();
  await server.close();
}

async function is_refused() {
  await assert.rejects(amqp.connect(url.replace('guest:guest', 'guest:wrong')), /ACCESS-REFUSED|ACCESS_REFUSED|403/);
  await assert.rejects(amqp.connect(`${url}nowhere`), /NOT_ALLOWED|NOT-ALLOWED|530|ConnectionClose/);
}

async function main() {
  const connection = await amqp.connect(`${url}?heartbeat=5&frameMax=8192&channelMax=100`);
  for (const story of [publishes_and_consumes, carries_properties, gives_back, hears_of_returns, hears_of_nacks, hears_of_errors,
    hears_that_its_queue_is_gone, asks_and_is_answered, is_refused]) {
    await story(connection);
    console.log(story.name);
  }
  await connection.close();
  console.log('passed');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
