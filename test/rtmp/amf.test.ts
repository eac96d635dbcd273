import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import { AmfDate, AmfObject, type AmfValue, amfObject } from "../../gateway/rtmp/amf.js";
import { readAmf0, readAmf0Prefix, writeAmf0 } from "../../gateway/rtmp/amf0.js";
import { readAmf3, writeAmf3 } from "../../gateway/rtmp/amf3.js";

const CASES: readonly { name: string; value: AmfValue; amf0: string; amf3: string }[] = [
  { name: "a number", value: 1.5, amf0: "003ff8000000000000", amf3: "053ff8000000000000" },
  { name: "a whole number", value: 300, amf0: "004072c00000000000", amf3: "04822c" },
  { name: "a negative number", value: -1, amf0: "00bff0000000000000", amf3: "04ffffffff" },
  {
    name: "the largest integer of AMF3",
    value: 2 ** 28 - 1,
    amf0: "0041afffffff000000".replace("ff0", "fe0"),
    amf3: "04bfffffff",
  },
  { name: "true", value: true, amf0: "0101", amf3: "03" },
  { name: "false", value: false, amf0: "0100", amf3: "02" },
  { name: "text", value: "äb", amf0: "020003c3a462", amf3: "0607c3a462" },
  { name: "empty text", value: "", amf0: "020000", amf3: "0601" },
  { name: "null", value: null, amf0: "05", amf3: "01" },
  { name: "undefined", value: undefined, amf0: "06", amf3: "00" },
  { name: "a date", value: new AmfDate(1000), amf0: "0b408f4000000000000000", amf3: "0801408f400000000000" },
  { name: "an object", value: amfObject({ a: 1 }), amf0: "03000161003ff0000000000000000009", amf3: "0a0b01036104" + "0101" },
  {
    name: "an associative array",
    value: new AmfObject("array", [["a", true]]),
    amf0: "0800000001" + "0001610101" + "000009",
    amf3: "0901" + "036103" + "01",
  },
  { name: "an array", value: [null, "x"], amf0: "0a00000002" + "05" + "02000178", amf3: "090501" + "01" + "060378" },
  { name: "a typed object", value: new AmfObject("object", [], "C"), amf0: "10000143" + "000009", amf3: "0a0b0343" + "01" },
  { name: "bytes", value: Buffer.from([1, 2]), amf0: "110c050102", amf3: "0c050102" },
];

for (const { name, value, amf0, amf3 } of CASES) {
  test(`reads and writes ${name}`, () => {
    assert.equal(writeAmf0([value]).toString("hex"), amf0);
    assert.deepEqual(readAmf0(Buffer.from(amf0, "hex")), [value]);
    assert.equal(writeAmf3([value]).toString("hex"), amf3);
    assert.deepEqual(readAmf3(Buffer.from(amf3, "hex")), [value]);
  });
}

test("text over 65535 bytes is a long string", () => {
  const text = "x".repeat(70_000);
  const bytes = writeAmf0([text]);
  assert.equal(bytes[0], 0x0c);
  assert.deepEqual(readAmf0(bytes), [text]);
});

test("an AMF0 message may switch to AMF3 for a value", () => {
  const bytes = Buffer.concat([writeAmf0(["connect", 1]), Buffer.from([0x11]), writeAmf3([amfObject({ app: "live" })])]);
  assert.deepEqual(readAmf0(bytes), ["connect", 1, amfObject({ app: "live" })]);
});

test("AMF3 references of strings, traits and objects", () => {
  // [ {class "", dynamic, a: "a"}, traits by reference: { b: "a" }, the first object again ]
  const bytes = Buffer.from("090701" + "0a0b01" + "0361" + "0600" + "01" + "0a01" + "0362" + "0600" + "01" + "0a02", "hex");
  assert.deepEqual(readAmf3(bytes), [[amfObject({ a: "a" }), amfObject({ b: "a" }), amfObject({ a: "a" })]]);
});

test("an AMF3 object with sealed members", () => {
  assert.deepEqual(readAmf3(Buffer.from("0a13" + "0343" + "0361" + "03", "hex")), [new AmfObject("object", [["a", true]], "C")]);
});

test("AMF0 references point at earlier objects", () => {
  const object = writeAmf0([amfObject({ a: 1 })]);
  assert.deepEqual(readAmf0(Buffer.concat([object, Buffer.from("070000", "hex")])), [amfObject({ a: 1 }), amfObject({ a: 1 })]);
});

test("an associative array whose end marker is missing at the end of the message is read", () => {
  assert.deepEqual(readAmf0(Buffer.from("08000000ff0001610101", "hex")), [new AmfObject("array", [["a", true]])]);
});

test("a key that JavaScript treats specially is only a key", () => {
  const value = amfObject({});
  value.set("__proto__", "x");
  assert.equal((readAmf0(writeAmf0([value]))[0] as AmfObject).text("__proto__"), "x");
});

test("a prefix stops where the next value starts", () => {
  const first = writeAmf0(["@setDataFrame"]);
  const { values, end } = readAmf0Prefix(Buffer.concat([first, writeAmf0(["onMetaData"])]), 1);
  assert.deepEqual(values, ["@setDataFrame"]);
  assert.equal(end, first.length);
});

const deep0 = (depth: number) => Buffer.concat(Array.from({ length: depth }, () => Buffer.from("03000161", "hex")));
const deep3 = (depth: number) => Buffer.concat(Array.from({ length: depth }, () => Buffer.from("090301", "hex")));
const REFUSED: readonly [string, string, () => unknown][] = [
  ["objects nested 10,000 deep", "amf-too-deep", () => readAmf0(deep0(10_000))],
  ["arrays nested 10,000 deep in AMF3", "amf-too-deep", () => readAmf3(deep3(10_000))],
  ["AMF3 nested in AMF0 10,000 deep", "amf-too-deep", () => readAmf0(Buffer.concat([Buffer.from([0x11]), deep3(10_000)]))],
  ["an array of 2^32", "amf-array", () => readAmf0(Buffer.from("0affffffff05", "hex"))],
  ["an AMF3 array of 2^28", "amf-array", () => readAmf3(Buffer.from("09ffffffff01", "hex"))],
  ["AMF3 traits of 2^25 names", "amf-array", () => readAmf3(Buffer.from("0afffffffb01", "hex"))],
  ["a long string of 2^32", "bytes-truncated", () => readAmf0(Buffer.from("0cffffffff61", "hex"))],
  ["a byte array of 2^28", "bytes-truncated", () => readAmf3(Buffer.from("0cffffffff61", "hex"))],
  ["a million values", "amf-too-many", () => readAmf0(Buffer.alloc(1_000_000, 5))],
  ["two million bytes", "amf-too-long", () => readAmf0(Buffer.alloc(2_000_000, 5))],
  ["two million bytes of AMF3", "amf-too-long", () => readAmf3(Buffer.alloc(2_000_000, 1))],
  ["an unknown marker", "amf-marker", () => readAmf0(Buffer.from([0x33]))],
  ["an unknown AMF3 marker", "amf-marker", () => readAmf3(Buffer.from([0x33]))],
  ["a reference to nothing", "amf-reference", () => readAmf0(Buffer.from("070005", "hex"))],
  ["a string reference to nothing", "amf-reference", () => readAmf3(Buffer.from("0604", "hex"))],
  ["an object reference to nothing", "amf-reference", () => readAmf3(Buffer.from("0a04", "hex"))],
  ["a traits reference to nothing", "amf-reference", () => readAmf3(Buffer.from("0a05", "hex"))],
  ["a class with a form of its own", "amf-externalizable", () => readAmf3(Buffer.from("0a070343", "hex"))],
  ["an object that does not end", "bytes-truncated", () => readAmf0(Buffer.from("030001610101", "hex"))],
];

for (const [name, code, work] of REFUSED) {
  test(`refuses ${name}`, () => {
    assert.throws(work, (error) => error instanceof ProtocolError && error.code === code);
  });
}

test("an object that refers to itself is written up to the depth that is read, not for ever", () => {
  const [self] = readAmf3(Buffer.from("0a0b01" + "0361" + "0a00" + "01", "hex"));
  assert.throws(() => writeAmf3([self]), TypeError);
  assert.throws(() => writeAmf0([self]), TypeError);
});
