"""Holds the cases of SPF against pyspf, an independent reading of RFC 7208: python3 spf_cases.py CASES

CASES is server/src/trust/spf/cases.txt. Prints how many cases there are, and ends with 1 when pyspf finds something else.
"""

import ipaddress
import re
import socket
import sys

import spf

# RFC 7208 section 7.3: "the value MUST be nonzero". pyspf does not look.
KNOWN_BETTER = {"zero"}


def octets(text):
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())


def zone_of(lines):
    zone = {}
    for line in lines:
        name, kind, *data = line.lstrip().split(" ", 2)
        if kind == "PTR":
            name = ipaddress.ip_address(name).reverse_pointer
        zone.setdefault(name.lower().rstrip("."), []).append((kind, data[0] if data else ""))
    return zone


def answer(zone):
    def look_up(name, kind, strict=True, timeout=None, level=0):
        records = zone.get(name.lower().rstrip("."), [])
        if any(of == "TIMEOUT" for of, _ in records):
            raise spf.TempError("no answer")
        for of, data in records:
            if of != kind:
                continue
            if kind == "AAAA":
                data = socket.inet_pton(socket.AF_INET6, data)
            elif kind == "TXT":
                data = (octets(data),)
            elif kind == "MX":
                preference, host = data.split(" ")
                data = (int(preference), host)
            yield ((name, of), data)

    return look_up


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    count, wrong = 0, []
    for block in blocks:
        lines = [line for line in block.split("\n") if line and not line.startswith("#")]
        spf.DNSLookup = answer(zone_of(line for line in lines if not line.startswith("CASE ")))
        for line in lines:
            if not line.startswith("CASE "):
                continue
            _, name, address, helo, sender, wanted, *_ = line.split(" ", 6)
            query = spf.query(i=address.replace("::ffff:", ""), s="" if sender == "<>" else sender, h=helo, strict=True)
            found = query.check()[0]
            count += 1
            if found != wanted and name not in KNOWN_BETTER:
                wrong.append(f"{name}: {wanted} in the cases, {found} by pyspf")
    print(count)
    if wrong:
        sys.exit("\n".join(wrong))


main()
