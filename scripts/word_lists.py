#!/usr/bin/env python3
"""Makes the word lists of bedrock-guard (bedrock-guard/data/*.txt) from their sources.

    word_lists.py first_female.tsv first_male.tsv last.tsv vocabulary_source.jsonl... 

- first.txt, last.txt: the US Census Bureau's 1990 name frequencies (a work of the US government, public domain), as
  tab-separated `name, percent` with a header line. Names in lower case, sorted.
- vocabulary.txt: words that are written in lower case in English prose, so that a capital at the start of a sentence does
  not make them names. Counted from the `text`, `question`, `answer`, `instruction`, `output` … strings of JSONL files; used: GSM8K (MIT),
  TruthfulQA (Apache-2.0), the questions of COVID-QA (Apache-2.0), items of self-instruct, of HarmBench and of prompt-attack collections
  whose `licence` field says Apache or MIT; and the lower-case words of plain .txt files;
  used: Tiny Shakespeare (public domain). A list of single words is not a copy of its sources.
"""
import collections, json, pathlib, re, sys

OUT = pathlib.Path(__file__).resolve().parent.parent / "bedrock-guard" / "data"


def names(*paths, least):
    found = set()
    for path in paths:
        for line in open(path, encoding="utf-8").read().splitlines()[1:]:
            name, percent = line.split("\t")
            if float(percent) >= least and len(name) > 1:
                found.add(name.lower())
    return sorted(found)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def texts(path):
    if path.endswith(".txt"):
        yield open(path, encoding="utf-8").read()
        return
    for line in open(path, encoding="utf-8"):
        item = json.loads(line)
        if "licence" in item and not item["licence"].startswith(("Apache", "MIT")):
            continue
        yield from strings(item)


def main():
    female, male, last, *prose = sys.argv[1:]
    OUT.joinpath("first.txt").write_text("\n".join(names(female, male, least=0.0)) + "\n")
    OUT.joinpath("last.txt").write_text("\n".join(names(last, least=0.0)) + "\n")
    lower, capital = collections.Counter(), collections.Counter()
    for path in prose:
        for text in texts(path):
            for match in re.finditer(r"(?<![\w'])[A-Za-z]+(?:'[a-z]+)?(?![\w])", text):
                word = match.group()
                (lower if word.islower() else capital)[word.lower()] += 1
    # Prose of chats and of arithmetic problems is full of names; a word that is also a name has to be written small more
    # often than not. These are in everyday use as words all the same.
    keep = "mark bill grant chase chance drew rob sue lance dale art gene ray rusty sandy misty dawn rich case price young long cook".split()
    first, last_ = set(names(female, male, least=0.0)), set(names(last, least=0.0))
    drop = "kevin tyrone riley alma rosemary della".split()
    need = lambda w: 0 if w in drop else 20 if w in keep else 1 if w in first else 4 if w in last_ else 20
    words = sorted(w for w, n in lower.items() if n >= 2 and 2 <= len(w) <= 14 and n * need(w) >= capital[w])
    OUT.joinpath("vocabulary.txt").write_text("\n".join(words) + "\n")
    print(*(f"{p.name}: {len(p.read_text().split())}" for p in sorted(OUT.glob("*.txt"))))


main()
