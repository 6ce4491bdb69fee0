"""Reads DMARC aggregate reports: python3 dmarc_report.py MESSAGE...

Prints one line for each record: domain, policy, address, count, disposition, DKIM, SPF, From, and the results below, as
Python's own libraries read the mail, the compression and the XML.
"""

import email
import email.policy
import gzip
import sys
import xml.etree.ElementTree

SPACE = "{urn:ietf:params:xml:ns:dmarc-2.0}"


def text(element, path):
    found = element.find("/".join(SPACE + name for name in path.split("/")))
    return "-" if found is None or found.text is None else found.text.strip()


def show(path):
    with open(path, "rb") as file:
        message = email.message_from_binary_file(file, policy=email.policy.default)
    attachments = [part for part in message.iter_attachments()]
    assert len(attachments) == 1 and attachments[0].get_content_type() == "application/gzip", message
    report = xml.etree.ElementTree.fromstring(gzip.decompress(attachments[0].get_content()))
    assert report.tag == SPACE + "feedback", report.tag
    begin, end = (int(text(report, f"report_metadata/date_range/{name}")) for name in ("begin", "end"))
    assert begin < end and "@" in text(report, "report_metadata/email"), (begin, end)
    assert text(report, "policy_published/domain") in message["Subject"], message["Subject"]
    for record in report.findall(SPACE + "record"):
        words = [
            text(report, "policy_published/domain"),
            text(report, "policy_published/p"),
            text(record, "row/source_ip"),
            text(record, "row/count"),
            text(record, "row/policy_evaluated/disposition"),
            text(record, "row/policy_evaluated/dkim"),
            text(record, "row/policy_evaluated/spf"),
            text(record, "identifiers/header_from"),
            text(record, "identifiers/envelope_from"),
            text(record, "auth_results/spf/domain"),
            text(record, "auth_results/spf/scope"),
            text(record, "auth_results/spf/result"),
        ]
        print(" ".join(words))


for name in sys.argv[1:]:
    show(name)
