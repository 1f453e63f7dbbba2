"""Signatures of AWS (version 4) as botocore computes them, among them cases of AWS's published test suite.

    pip install botocore && python scripts/reference/remote_signatures.py
"""

import datetime
import json
import unittest.mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from remote_traffic import FOLDER

KEY = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SUITE = datetime.datetime(2015, 8, 30, 12, 36, 0, tzinfo=datetime.timezone.utc)
TYPE = {"Content-Type": "application/json"}
# The first two are `get-vanilla` and `post-vanilla` of the published suite.
CASES = [
    ("GET", "https://example.amazonaws.com/", "", {}, "us-east-1", "service", None),
    ("POST", "https://example.amazonaws.com/", "", {}, "us-east-1", "service", None),
    ("GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1&a%20b=%2F~", "", {}, "us-east-1", "service", None),
    ("POST", "https://bedrock-runtime.eu-north-1.amazonaws.com/model/meta.llama3-8b-instruct-v1%3A0/converse", '{"messages":[]}', TYPE, "eu-north-1", "bedrock", None),
    ("POST", "http://127.0.0.1:8080/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Amodel%2Fx%20y/invoke", "{}", {**TYPE, "X-Amzn-Bedrock-Accept": "application/json"}, "eu-west-1", "bedrock", "token/with+signs="),
]

out = []
for method, url, body, headers, region, service, token in CASES:
    with unittest.mock.patch.object(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: SUITE.replace(tzinfo=None) if remove_tzinfo else SUITE):
        request = AWSRequest(method=method, url=url, data=body.encode(), headers=headers)
        botocore.auth.SigV4Auth(Credentials(*KEY, token), service, region).add_auth(request)
    out.append({"method": method, "url": url, "body": body, "headers": {name.lower(): value for name, value in headers.items()}, "region": region, "service": service, "token": token, "authorization": request.headers["Authorization"]})
assert out[0]["authorization"].endswith("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"), out[0]
assert out[1]["authorization"].endswith("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"), out[1]
(FOLDER / "signatures.json").write_text(json.dumps(out, indent=1) + "\n")
