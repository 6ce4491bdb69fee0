"""Checks the DKIM signatures of a message: python3 dkim_check.py MESSAGE KEYS

An independent reading of RFC 6376 and RFC 8463, relaxed/relaxed, with openssl for the arithmetic. KEYS is JSON as
`rockdove domain dkim list --json` prints it. Ends with 1 when a signature is wrong, prints the selectors otherwise.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tempfile


def relaxed_header(field):
    name, value = field.split(b":", 1)
    value = re.sub(rb"\r\n(?=[ \t])", b"", value)
    return name.strip().lower() + b":" + re.sub(rb"[ \t]+", b" ", value).strip()


def relaxed_body(body):
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def tags(value):
    unfolded = re.sub(rb"\s+", b"", value.split(b":", 1)[1]) if b":" in value.split(b"=")[0] else re.sub(rb"\s+", b"", value)
    return {k.decode(): v for k, v in (tag.split(b"=", 1) for tag in unfolded.split(b";") if b"=" in tag)}


def signed_data(fields, signature):
    left = list(fields)
    chosen = []
    for name in tags(signature)["h"].split(b":"):
        for place in range(len(left) - 1, -1, -1):
            if left[place].split(b":", 1)[0].strip().lower() == name.lower():
                chosen.append(relaxed_header(left.pop(place)))
                break
    bare = re.sub(rb"([;\s]b=)[^;]*", rb"\1", signature)
    return b"\r\n".join(chosen + [relaxed_header(bare)])


def verifies(algorithm, published, data, signature):
    with tempfile.TemporaryDirectory() as folder:
        def write(name, octets):
            path = f"{folder}/{name}"
            with open(path, "wb") as file:
                file.write(octets)
            return path
        key = base64.b64decode(published)
        if algorithm == b"ed25519-sha256":
            key = bytes.fromhex("302a300506032b6570032100") + key
            data = hashlib.sha256(data).digest()
        key, data, signature = write("key", key), write("data", data), write("signature", signature)
        pem = f"{folder}/pem"
        subprocess.run(["openssl", "pkey", "-pubin", "-inform", "DER", "-in", key, "-out", pem], check=True)
        if algorithm == b"ed25519-sha256":
            command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", pem, "-in", data, "-sigfile", signature]
        else:
            command = ["openssl", "dgst", "-sha256", "-verify", pem, "-signature", signature, data]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


def main():
    with open(sys.argv[1], "rb") as file:
        head, body = file.read().split(b"\r\n\r\n", 1)
    with open(sys.argv[2], encoding="utf-8") as file:
        keys = {key["selector"]: tags(key["record"].encode()) for key in json.load(file)}
    fields = re.split(rb"\r\n(?![ \t])", head)
    signatures = [field for field in fields if field.lower().startswith(b"dkim-signature:")]
    others = [field for field in fields if field not in signatures]
    for signature in signatures:
        found = tags(signature)
        selector = found["s"].decode()
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
        if found["bh"] != body_hash:
            sys.exit(f"{selector}: the body hash is {found['bh']}, not {body_hash}")
        if found["h"].lower().split(b":").count(b"from") != 2:
            sys.exit(f"{selector}: a second From could be added")
        data = signed_data(others, signature)
        if not verifies(found["a"], keys[selector]["p"], data, base64.b64decode(found["b"])):
            sys.exit(f"{selector}: the signature is wrong")
        # And a message that was changed does not pass.
        if verifies(found["a"], keys[selector]["p"], data.replace(b"Subject", b"subject").replace(b"subject:", b"subject: x"), base64.b64decode(found["b"])):
            sys.exit(f"{selector}: the signature fits anything")
        print(selector)


main()
