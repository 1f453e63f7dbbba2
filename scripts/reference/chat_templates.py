#!/usr/bin/env python3
"""Makes bedrock-models/tests/fixtures/chat_templates: templates in the style of the published families, and what
transformers renders with them.

    python -m venv .venv && .venv/bin/pip install transformers==5.23.0 jinja2==3.1.6
    .venv/bin/python scripts/reference/chat_templates.py

The templates are written here. Each uses what its family uses, so that together they cover what chat templates do.
"""

import datetime
import json
from pathlib import Path

from transformers.utils import chat_template_utils

OUT = Path(__file__).resolve().parents[2] / "bedrock-models" / "tests" / "fixtures" / "chat_templates"

TEMPLATES = {}

TEMPLATES["chatml"] = """{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nYou keep bees.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + (message.content or '') | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

TEMPLATES["tools_as_json"] = """{%- if tools %}
{%- set ns = namespace(names=[]) %}
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- set ns.names = ns.names + [tool.function.name] %}
{%- endfor %}
</tools> {{ ns.names | join(', ') }} {{ ns.names }} {{ tools[0].function.parameters.properties.keys() | list }}
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}<|user|>{% endif %}
<tool_response name="{{ message.name | default('?') }}">
{{ message.content }}
</tool_response>
{%- elif message.tool_calls is defined and message.tool_calls %}
<|assistant|>{{ message.content if message.content is not none else '' }}
{%- for call in message.tool_calls %}
{%- if call.function %}{% set call = call.function %}{% endif %}
{"name": "{{ call.name }}", "arguments": {% if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.arguments | tojson(indent=2) }}{% endif %}}
{%- endfor %}
{%- else %}
<|{{ message.role }}|>{{ message.content }}
{%- endif %}
{%- endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}
"""

TEMPLATES["alternating"] = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate: ' ~ message['role'] ~ ' at ' ~ loop.index) }}
{% endif %}
{% if message['role'] == 'user' %}
[INST] {{ message['content'].strip() }} [/INST]
{% elif message['role'] == 'assistant' %}
{{ message['content'] + eos_token }}
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}
{% endfor %}"""

TEMPLATES["date_and_macros"] = """{%- macro render(content, quoted=false) -%}
    {%- if content is string -%}
        {{- '"' ~ content ~ '"' if quoted else content -}}
    {%- elif content is mapping -%}
        {%- for key, value in content.items() -%}{{ key }}={{ value }}{{ '; ' if not loop.last }}{%- endfor -%}
    {%- elif content is iterable -%}
        {%- for part in content -%}
            {%- if part.type == 'text' -%}{{ part['text'] }}{%- else -%}<{{ part.type | upper }}>{%- endif -%}
        {%- endfor -%}
    {%- else -%}{{ content }}{%- endif -%}
{%- endmacro -%}
{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif -%}
Today: {{ date_string }}
{% for message in messages %}
{%- if message.role == 'system' %}{% continue %}{% endif %}
{{ loop.index }}. {{ message.role | capitalize }}: {{ render(message.content) }} {{ render(message.content, quoted=true) | length }}
{%- if loop.index0 >= 3 %}
(more)
{%- break %}
{%- endif %}
{%- endfor %}
"""

TEMPLATES["thinking"] = """{%- set ns = namespace(last=messages | length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == 'user' and not (message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.found = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- generation %}
        {{- '<a>' + (('<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n') if loop.index0 > ns.last and reasoning else '') + content + '</a>' }}
        {%- endgeneration %}
    {%- else %}
        {{- '<' ~ message.role[0] ~ '>' ~ content ~ '</' ~ message.role[0] ~ '>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<a>' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

TEMPLATES["values"] = """{{ 1 }} {{ 1.0 }} {{ 2 / 4 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ true }} {{ none }} {{ 'x' * 3 }}
{{ [1, 'a', "it's", none, true, 1.5, {'k': [1]}] }} {{ {'a': 'b"c', 1: 2} }} {{ (1, 2) | list }}
{{ messages[0] }}
{{ messages | map(attribute='role') | list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='content') | join('/') }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'Hello World'.lower() | replace('o', '0') }} {{ 'abc'[1:] }} {{ 'abc'[-1] }} {{ 'abc'[::-1] }}
{{ 'hello world' | title }} {{ 'hello' | capitalize }} {{ ' x ' | trim }}| {{ 'x' | default('y') }} {{ missing | default('y') }} {{ '' | default('z', true) }}
{{ 'line one\\nline two\\n\\nline four' | indent(4) }}
{{ 'line one\\nline two' | indent(width=2, first=true) }}
{{ [3, 1, 2] | sort }} {{ [3, 1, 2] | max }} {{ [1, 2, 3] | first }} {{ [1, 2, 3] | last }} {{ [1, 2] + [3] }} {{ [1, 2, 2, 3] | unique | list }}
{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %} {% for k, v in {'b': 1, 'a': 2} | items %}{{ k }}{{ v }}{% endfor %} {{ {'b': 1}.get('c', 'd') }} {{ {'b': 1}.get('c') }}
{{ 'a' in 'abc' }} {{ 'z' not in ['z'] }} {{ 'a' ~ 1 ~ none ~ 2.0 }} {{ 3 is odd }} {{ 'x' is string }} {{ messages is iterable }} {{ 1 is number }}
{{ range(3) | list }} {{ range(10, 0, -3) | list }} {{ '%s has %d' | format('it', 3) }} {{ '{} {}'.format(1, 'b') }} {{ 3.7 | int }} {{ '5' | int + 1 }}
{{ {'a': 1, 'ü': [1, 2.5, none, true, '<&>\\n"'], 'n': {}, 'l': []} | tojson }}
{{ {'a': 1, 'ü': [1, 2.5, {'x': 'y'}], 'n': {}, 'l': []} | tojson(indent=4) }}
{{ {'b': 1, 'a': 'ü'} | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}
{{ 1e20 }} {{ 1e-7 }} {{ 123456789.123 }} {{ 100000000000000000000 }} {{ -5 // 2 }} {{ -0.0 }}
{% for a in [1, 2, 3] if a != 2 %}{{ a }}{{ ',' if not loop.last }}{{ loop.length }}{% else %}none{% endfor %}
{% for x in [] %}{% else %}empty{% endfor %}
{% set x %}captured {{ 1 + 1 }}{% endset %}{{ x | upper }}{% filter lower %} FILTERED{% endfilter %}
{%- raw %} {{ raw }} {% endraw %}{# a comment #}
    {%+ if true %}kept{% endif %}

{{ loop is defined }} {{ documents is none }} {{ tools is none }} {{ dict(a=1) }} {{ 'é'.upper() }} {{ 'a\\tb' }}
"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "count_bees",
            "description": "Counts <bees> & drones.",
            "parameters": {
                "type": "object",
                "properties": {"hive": {"type": "integer"}, "items": {"type": "array", "items": {"type": "string"}}},
                "required": ["hive"],
            },
        },
    },
    {"type": "function", "function": {"name": "weigh", "description": "", "parameters": {"type": "object", "properties": {}}}},
]

PLAIN = [{"role": "user", "content": " How many hives? "}]
LONG = [
    {"role": "system", "content": "Count carefully."},
    {"role": "user", "content": "Tonight?\n"},
    {"role": "assistant", "content": "<think>\nI look.\n</think>\n\nForty-two 蜂."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes.", "reasoning_content": "\nI am.\n"},
    {"role": "user", "content": "<r>x</r>"},
]
CALLS = [
    {"role": "user", "content": "Count."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "count_bees", "arguments": {"hive": 3, "items": ["ü", "<b>"]}}},
            {"id": "2", "type": "function", "function": {"name": "weigh", "arguments": {}}},
        ],
    },
    {"role": "tool", "tool_call_id": "1", "name": "count_bees", "content": "{\"n\": 42}"},
    {"role": "tool", "tool_call_id": "2", "content": "31.5"},
    {"role": "assistant", "content": "Done."},
]
PARTS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image"}]},
    {"role": "assistant", "content": {"a": 1, "b": [True, None]}},
    {"role": "user", "content": "one"},
    {"role": "user", "content": "two"},
]

CASES = [
    ("plain", PLAIN, None, True, {}),
    ("plain_without_prompt", PLAIN, None, False, {}),
    ("long", LONG, None, True, {}),
    ("tools", PLAIN, TOOLS, True, {}),
    ("calls", CALLS, TOOLS, True, {}),
    ("parts", PARTS, None, False, {}),
    ("variables", LONG[1:4], None, True, {"enable_thinking": False, "date_string": "today", "documents": [{"text": "d"}]}),
]

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
NOW = 1721955600


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc)


def main():
    chat_template_utils.datetime = Clock
    OUT.mkdir(parents=True, exist_ok=True)
    result = {"now": NOW, "special_tokens": TOKENS, "templates": []}
    for name, source in TEMPLATES.items():
        (OUT / f"{name}.jinja").write_text(source)
        compiled = chat_template_utils._compile_jinja_template(source)
        cases = []
        for case, messages, tools, prompt, variables in CASES:
            entry = {"name": case, "messages": messages, "tools": tools, "add_generation_prompt": prompt, "variables": variables}
            given = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt, **TOKENS, **variables}
            try:
                entry["rendered"] = compiled.render(**given)
            except Exception as error:  # noqa: BLE001: whatever it is, we have to fail too
                entry["error"] = str(error)
                entry["refused"] = type(error).__name__ == "TemplateError"
            cases.append(entry)
        result["templates"].append({"name": name, "cases": cases})
    (OUT / "expected.json").write_text(json.dumps(result, ensure_ascii=True, indent=1) + "\n")


if __name__ == "__main__":
    main()
