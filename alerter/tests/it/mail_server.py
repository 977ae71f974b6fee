# A mail server that prints what it gets: FOLDER of its certificate, "tls" or "plain", PORT.
import json, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

folder, tls, port = sys.argv[1], sys.argv[2] == "tls", int(sys.argv[3])


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None}
        print(json.dumps({**mail, "data": envelope.content.decode()}), flush=True)
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    # Not handled: the server answers.
    return AuthResult(success=data.login == b"me" and data.password == b"pa ss", handled=False)


options = {}
if tls:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
    options = {"tls_context": context, "require_starttls": True, "authenticator": login, "auth_required": True}
Controller(Handler(), hostname="127.0.0.1", port=port, **options).start()
print("ready", flush=True)
sys.stdin.read()
