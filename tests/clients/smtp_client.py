"""smtplib against MX, submission and LMTP. Argument: what the server is like, as JSON."""

import json
import smtplib
import ssl
import sys

from scram import Scram

server = json.loads(sys.argv[1])
tls = ssl.create_default_context(cafile=server["certificate"])
ada, password = server["user"], server["password"]
ben = ada.replace("ada@", "ben@")


def message(subject):
    return f"From: {ada}\r\nTo: {ben}\r\nSubject: {subject}\r\n\r\n.dots\r\n..and lines\r\n"


# MX, in clear and over TLS; a refused recipient does not keep the others from their copy.
with smtplib.SMTP("localhost", server["mx"]) as smtp:
    smtp.ehlo()
    assert smtp.has_extn("pipelining") and smtp.has_extn("8bitmime") and smtp.has_extn("starttls")
    assert not smtp.has_extn("auth"), "an MX takes no passwords"
    refused = smtp.sendmail("stranger@elsewhere.example", [ben, ben.replace("ben@", "nobody@")], message("mx"))
    assert [code for code, _ in refused.values()] == [550], refused
    try:
        smtp.sendmail("stranger@elsewhere.example", ["victim@elsewhere.example"], message("relayed"))
        raise AssertionError("an open relay")
    except smtplib.SMTPRecipientsRefused as error:
        assert error.recipients["victim@elsewhere.example"][0] == 554, error
with smtplib.SMTP("localhost", server["mx"]) as smtp:
    smtp.starttls(context=tls)
    smtp.sendmail("stranger@elsewhere.example", ben, message("mx tls"))

# Submission: each mechanism, over STARTTLS and over TLS from the start.
for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"]:
    with smtplib.SMTP("localhost", server["submission"]) as smtp:
        smtp.starttls(context=tls)
        smtp.ehlo()
        assert mechanism in smtp.esmtp_features["auth"].split(), smtp.esmtp_features
        smtp.user, smtp.password = ada, password
        if mechanism == "SCRAM-SHA-256":
            scram = Scram(ada, password)
            smtp.auth(mechanism, scram)
            assert scram.verified
        else:
            smtp.auth(mechanism, getattr(smtp, "auth_" + mechanism.lower()))
        smtp.sendmail(ada, ben, message("submission " + mechanism))
with smtplib.SMTP_SSL("localhost", server["submissions"], context=tls) as smtp:
    smtp.login(ada, password)
    try:
        smtp.sendmail(ben, ben, message("forged"))
        raise AssertionError("ada sent as ben")
    except smtplib.SMTPSenderRefused as error:
        assert error.smtp_code == 553, error
    smtp.sendmail(ada, ben, message("submissions"))
with smtplib.SMTP_SSL("localhost", server["submissions"], context=tls) as smtp:
    # smtplib takes 503 for a success, so say hello first.
    smtp.ehlo()
    try:
        smtp.auth("SCRAM-SHA-256", Scram(ada, "wrong"))
        raise AssertionError("a wrong password")
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535, error

# LMTP over both kinds of socket.
for host, port in [("localhost", server["lmtp"]), (server["lmtp_socket"], 0)]:
    with smtplib.LMTP(host, port) as lmtp:
        lmtp.sendmail("stranger@elsewhere.example", [ben], message("lmtp"))
print("ok")
