"""A stock OpenID Connect library reads the issuer's documents and a token: ISSUER CA AUDIENCE DIRECTORY < TOKEN."""

import json
import pathlib
import ssl
import sys
import urllib.request

import jwt

issuer, ca, audience, exported = sys.argv[1:]
token = sys.stdin.read().strip()
context = ssl.create_default_context(cafile=ca)
# The test's authority is a plain one; what is strict is about certificates, not about tokens.
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
discovery = issuer + "/.well-known/openid-configuration"
document = json.load(urllib.request.urlopen(discovery, context=context))
assert document["issuer"] == issuer, document
algorithms = document["id_token_signing_alg_values_supported"]
required = ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"]
served = jwt.PyJWKClient(document["jwks_uri"], ssl_context=context)
key = served.get_signing_key_from_jwt(token)
claims = jwt.decode(
    token, key, algorithms, audience=audience, issuer=issuer, options={"require": required}
)
print("served:", claims["sub"], claims["groups"])

jwks = json.loads((pathlib.Path(exported) / "jwks.json").read_text())
kid = jwt.get_unverified_header(token)["kid"]
key = jwt.PyJWKSet.from_dict(jwks)[kid]
claims = jwt.decode(token, key, algorithms, audience=audience, issuer=issuer)
print("exported:", claims["sub"])

for what, wrong in [
    ("audience", {"audience": "other", "issuer": issuer}),
    ("issuer", {"audience": audience, "issuer": issuer + "/"}),
]:
    try:
        jwt.decode(token, key, algorithms, **wrong)
        print(what, "ignored")
    except jwt.InvalidTokenError as error:
        print(what, "refused:", type(error).__name__)
