// What the Node scripts of this folder have in common; checks.py in JavaScript.
// A check that fails because the gateway does not yet do what it should is in
// its script's KNOWN_GAPS, with a part of what it then says: it is printed, not
// counted.

import assert from "node:assert/strict";

export const [BASE_URL, UPSTREAM_URL] = process.argv.slice(2);
export const HELLO = "Hello there, friend.";
const passed = [];

/** Text of which no other run has the like. */
export const unique = (about) => `${about} ${process.pid}-${process.hrtime.bigint()}`;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What the provider was asked for this text, once `enough` of it has come or a second has passed. */
export async function asked(text, enough = () => true) {
  for (const deadline = Date.now() + 1000; ; await sleep(20)) {
    const all = await (await fetch(`${UPSTREAM_URL}/_asked`)).json();
    // Some clients send a text as a list of parts.
    const mine = all.filter(({ last }) => (Array.isArray(last) ? last[0].text : last) === text);
    if (enough(mine) || Date.now() > deadline) return mine;
  }
}

/** The provider was asked once, and saw within a second that its asker went away. */
export async function assertCancelled(text) {
  const mine = await asked(text, (mine) => mine.some((one) => one.disconnected));
  assert.deepEqual(mine.map((one) => one.disconnected), [true], "upstream does not see within 1 s that the client is gone");
}

export async function fails(kind, call) {
  let result;
  try {
    result = await call();
  } catch (error) {
    assert.ok(kind.isInstance ? kind.isInstance(error) : error instanceof kind, `not ${kind.name}: ${error?.stack ?? error}`);
    return error;
  }
  assert.fail(`no ${kind.name}, but ${JSON.stringify(result)}`);
}

export async function run(name, check, gaps) {
  try {
    await check();
  } catch (error) {
    if (name in gaps && error.message.includes(gaps[name])) {
      console.log(`KNOWN GAP ${name}: ${error.message.slice(0, 120)}`);
      return;
    }
    console.error(error.stack);
    console.error(`FAILED ${name}: ${error.message.slice(0, 300)}`);
    process.exit(1);
  }
  if (name in gaps) console.log(`no longer a gap, take it out of KNOWN_GAPS: ${name}`);
  passed.push(name);
}

export function report(client) {
  console.log(`${passed.length} passed, 0 failed: ${client}: ${passed.join(", ")}`);
}
