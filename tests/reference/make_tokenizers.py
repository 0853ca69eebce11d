"""Write small tokenizers with the token ids, texts and conversations that Hugging Face makes of them.

usage: make_tokenizers.py OUT_DIR     (needs transformers, tokenizers, sentencepiece, protobuf, jinja2, gguf)

<name>/tokenizer.json   byte-level BPE as of GPT-2, SmolLM, Llama 3, Qwen 2, Tekken and GPT-4o; SentencePiece's BPE; every kind of added token
<name>.gguf             the same as llama.cpp's conversion writes it
expected.json           for each of them the ids of each text with and without special tokens, and the text that these are decoded to
chats.json              conversations, chat templates, and what `apply_chat_template` makes of them
"""
import io
import json
import os
import sys
import unicodedata

import numpy as np
import sentencepiece
import transformers
from gguf import GGUFWriter
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

transformers.logging.set_verbosity_error()
OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)

# One letter of each script that Unicode has, by the first word of its name.
SCRIPTS = {}
for code in range(0x80, 0x20000):
    if unicodedata.category(chr(code)) in ("Lo", "Ll", "Lu"):
        SCRIPTS.setdefault(unicodedata.name(chr(code), "none").split()[0], chr(code))
TRAINING = [
    "When John and Mary went to the store, John gave a drink to Mary. They said: it's they'll I'm we've you're he'd don't",
    "The Eiffel Tower is in the city of Paris. Việt Nam 12345 67890 2024",
    "def f(x):\n    return x + 1\n\n\nprint(f(41))  # 日本語 тест привет мир 🙂",
    "a  b   c    d\t\te\r\n\r\nx שלום עולם مرحبا بالعالم नमस्ते दुनिया 안녕하세요 สวัสดี é e\u0301",
] * 10
TEXTS = [
    "", " ", "  ", "\n", "a", "Hello world", " Hello", "  two spaces", "   ", "When John and Mary went to the store,", " Mary Việt Nam",
    "it's they'll I'M WE'VE'd don't 'ſ 'S", "1 12 123 1234 12345678 90 ٣٤ ½ ² Ⅷ 一二", "日本語 тест 🙂👩‍👩‍👧 🏳️‍🌈", "a\n\n\nb \n c\r\n\r\nd\n \n", "tab\tx\r\ny \t z",
    "trailing ", "trailing  ", "trailing\n", "é e\u0301 e\u0301\u0323 ñ n\u0303 가 \u1100\u1161 \u00c5 A\u030a \u212b \u2126 fi ﬁ", "\u00a0nbsp\u00a0\u2003em\u3000ideographic\u200b\u200dzero\u2028line\u2029par\x85nel",
    "\x00\x01\x07\x08\x0b\x0c\x1b\x1c\x1f\x7f\u0080\ufeff\ufffd", "def f(x):\n    return x+1\n\tif x != 2: pass # ...", "https://example.com/a?b=c&d=%20#e", "CamelCase snake_case kebab-case UPPER ǅungla ʰʷ",
    "!!! ??? ... --- *** (((a))) [b] {c} <d> $1.50 €2 a/b/ \\n", "שלום עולם مرحبا بالعالم नमस्ते दुनिया 안녕하세요 สวัสดี", "".join(SCRIPTS.values()), " ".join(list(SCRIPTS.values())[::5]),
    "\U0010ffff\ue000\U000e0041\u0378", "x" * 70, " " * 40 + "x", "▁x a▁b ▁ ▁▁",
    "<|special|>", "<|special|>Hi", "Hi<|special|>", "Hi<|special|>there", "Hi <|special|> there", "<|special|><|special|>", "<|special|>\n\nHi <|end|>", "  <|special|>  ", "<|special|",
    "<tool>", "a<tool>b", " <tool> ", "x <tool><|special|><tool> y", "<tool", "<tool>Hi there", "日<tool>本<|end|>語", "<s>a</s> b<unk>c", "<0x41> <0xE6>", "[BOS]Hi", "   \t<end>",
]
ADDED = [AddedToken("<|special|>", special=True, normalized=False), AddedToken("<|end|>", special=True, normalized=False), AddedToken("<tool>", special=False, normalized=False)]

LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
CASES = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+END|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*END|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = CASES.replace("END", "").replace("NUMBER", r"\p{N}")
GPT_4O = CASES.replace("END", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?").replace("NUMBER", r"\p{N}{1,3}")


def by_pattern(pattern):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def byte_level(words, normalizer=None, whole_words=(), bos=False):
    """A tokenizer with a vocabulary of its own. No merges lead to its `whole_words`, which are found in the vocabulary at once."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = words, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    saved = json.loads(tokenizer.to_str())
    model = saved["model"]
    for word in whole_words:
        (spelled, _), = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
        model["vocab"].setdefault(spelled, len(model["vocab"]))
        model["merges"] = [merge for merge in model["merges"] if "".join(merge) != spelled]
    model["ignore_merges"] = bool(whole_words)
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.add_tokens(ADDED)
    if bos:
        tokenizer.add_special_tokens(["[BOS]"])
        tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", tokenizer.token_to_id("[BOS]"))])
    return tokenizer


def save(name, tokenizer, **config):
    folder = f"{OUT}/{name}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/tokenizer.json", "w") as file:
        json.dump(json.loads(tokenizer.to_str()), file, ensure_ascii=False, separators=(",", ":"))
    with open(f"{folder}/tokenizer_config.json", "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}, file)
    return AutoTokenizer.from_pretrained(folder)


def gguf(name, write):
    writer = GGUFWriter(f"{OUT}/{name}.gguf", "llama")
    write(writer)
    writer.add_tensor("token_embd.weight", np.zeros((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_gguf(name, tokenizer, pre, add_bos=None):
    """With an unused token at the end, as llama.cpp fills up a vocabulary."""
    def write(writer):
        saved = json.loads(tokenizer.to_str())
        added = {token["id"]: token for token in saved["added_tokens"]}
        tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])]
        kinds = [(3 if added[id]["special"] else 4) if id in added else 1 for id in range(len(tokens))]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens + [f"[PAD{len(tokens)}]"])
        writer.add_token_types(kinds + [5])
        writer.add_token_merges([" ".join(merge) for merge in saved["model"]["merges"]])
        writer.add_eos_token_id(tokenizer.token_to_id("<|end|>"))
        if tokenizer.token_to_id("[BOS]") is not None:
            writer.add_bos_token_id(tokenizer.token_to_id("[BOS]"))
        if add_bos is not None:
            writer.add_add_bos_token(add_bos)
    gguf(name, write)


expected = {}


def expect(name, tokenizer, with_special=True):
    """What transformers makes of each text, which is none of the truncation and padding that a file may hold."""
    ids = lambda text, special: tokenizer(text, add_special_tokens=special)["input_ids"]
    decoded = [tokenizer.decode(ids(text, False), skip_special_tokens=False) for text in TEXTS]
    expected[name] = {
        "with": [ids(text, with_special) for text in TEXTS],
        "without": [ids(text, False) for text in TEXTS],
        "decoded": [None if decoded == text else decoded for decoded, text in zip(decoded, TEXTS)],
    }


gpt2 = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
expect("gpt2", save("gpt2", gpt2, eos_token="<|end|>"))
byte_level_gguf("gpt2", gpt2, "gpt-2")

digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
smollm = byte_level(digits)
expect("smollm", save("smollm", smollm))
byte_level_gguf("smollm", smollm, "smollm", add_bos=False)

WHOLE = [" Việt", " Mary", " Nam", "日本語"]
llama3 = byte_level(by_pattern(LLAMA_3), whole_words=WHOLE, bos=True)
expect("llama3", save("llama3", llama3, bos_token="[BOS]", eos_token="<|end|>"))
byte_level_gguf("llama3", llama3, "llama-bpe")
expect("llama3_no_bos", AutoTokenizer.from_pretrained(f"{OUT}/llama3"), with_special=False)
byte_level_gguf("llama3_no_bos", llama3, "llama3", add_bos=False)

qwen2 = byte_level(by_pattern(QWEN_2), normalizer=normalizers.NFC())
expect("qwen2", save("qwen2", qwen2))
byte_level_gguf("qwen2", qwen2, "qwen2")

tekken = byte_level(by_pattern(TEKKEN), whole_words=WHOLE, bos=True)
expect("tekken", save("tekken", tekken))
byte_level_gguf("tekken", tekken, "tekken", add_bos=True)

gpt4o = byte_level(by_pattern(GPT_4O))
expect("gpt4o", save("gpt4o", gpt4o))
byte_level_gguf("gpt4o", gpt4o, "gpt-4o")

# Added tokens that take the spaces around them, that are words by themselves, and that are found in the normalized text.
added = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizer=normalizers.NFC())
added.add_tokens([
    AddedToken("[BOS]", lstrip=True, special=True), AddedToken("<s>", rstrip=True), AddedToken("</s>", lstrip=True, rstrip=True),
    AddedToken("John", single_word=True), AddedToken("\u00c5", normalized=True), AddedToken("\n\n", normalized=False),
])
later = {"700": {"content": "<unk>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False, "special": True}}
expect("added", save("added", added, added_tokens_decoder=later, pad_token="<end>"))

# A file with the truncation and padding of its training: transformers does not apply them.
cut = Tokenizer.from_str(llama3.to_str())
cut.enable_truncation(8)
cut.enable_padding(length=16, pad_id=0, pad_token="!")
cut.save(f"{OUT}/cut.json")
cut = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{OUT}/cut.json")
assert [cut(text)["input_ids"] for text in TEXTS] == expected["llama3"]["with"]
os.remove(f"{OUT}/cut.json")

# SentencePiece as for Llama 2, with and without the space before a text.
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(line for text in TRAINING for line in text.split("\n") if line), model_writer=model, vocab_size=420, model_type="bpe", byte_fallback=True,
    normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.98, split_digits=True, allow_whitespace_only_pieces=True,
    unk_id=0, bos_id=1, eos_id=2, pad_id=-1, user_defined_symbols=["<tool>", "<tool>Hi"], minloglevel=2)
for name, prefix in (("spm", True), ("spm_no_prefix", False)):
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    proto.normalizer_spec.add_dummy_prefix = prefix
    pieces = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    folder = f"{OUT}/{name}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/tokenizer.model", "wb") as file:
        file.write(proto.SerializeToString())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    os.remove(f"{folder}/tokenizer.model")
    os.rmdir(folder)
    expect(name, tokenizer)
    for text, ids in zip(TEXTS, expected[name]["without"]):
        if not any(token in text for token in ("<s>", "</s>", "<unk>")):
            assert ids == pieces.encode(text), (text, ids, pieces.encode(text))
    # As llama.cpp does by default, whatever the tokenizer's own files say.
    expected[name]["with"] = [[1] + ids for ids in expected[name]["without"]]

    def write(writer):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([piece.piece for piece in proto.pieces])
        writer.add_token_scores([piece.score for piece in proto.pieces])
        writer.add_token_types([piece.type for piece in proto.pieces])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        if not prefix:
            writer.add_add_space_prefix(False)
    gguf(name, write)

with open(f"{OUT}/expected.json", "w") as file:
    json.dump({"texts": TEXTS, "tokenizers": expected}, file, ensure_ascii=True, separators=(",", ":"))

# Conversations. Templates in the manner of those that checkpoints have, and of what they use of the language.
TEMPLATES = {
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|special|>system\nYou are helpful.<|end|>\n' }}{% endif %}"
              "{{'<|special|>' + message['role'] + '\n' + message['content'] + '<|end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|special|>assistant\n' }}{% endif %}",
    "header": "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n"
              "    {%- set system = \"\" %}\n{%- endif %}\n{%- if not date_string is defined %}\n    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n"
              "{{- \"<|special|>system\\n\\nToday Date: \" + date_string + \"\\n\\n\" + system + \"<|end|>\" }}\n"
              "{%- for message in messages %}\n    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
              "        {{- '<|special|>' + message['role'] + '\\n\\n' + message['content'] | trim + '<|end|>' }}\n    {%- elif 'tool_calls' in message %}\n"
              "        {%- if not message.tool_calls|length == 1 %}\n            {{- raise_exception(\"Only one tool call at once!\") }}\n        {%- endif %}\n"
              "        {%- set tool_call = message.tool_calls[0].function %}\n        {{- '{\"name\": \"' + tool_call.name + '\", ' }}\n        {{- '\"parameters\": ' }}\n"
              "        {{- tool_call.arguments | tojson }}\n        {{- \"}\" }}\n        {{- \"<|end|>\" }}\n    {%- elif message.role == \"tool\" or message.role == \"ipython\" %}\n"
              "        {%- if message.content is mapping or message.content is iterable %}\n            {{- message.content | tojson }}\n        {%- else %}\n            {{- message.content }}\n        {%- endif %}\n"
              "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|special|>assistant\\n\\n' }}\n{%- endif %}\n",
    "alternating": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
                   "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
                   "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
                   "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "blocks": "{% for message in messages %}\n  {% if message['role'] == 'user' %}\n<tool>\n{{ message['content'] }}{{ eos_token }}\n    {% else %}\n[{{ message.role | upper }}] {{ message['content'].strip() }}\n\n"
              "  {% endif %}\n  {#- a comment -#}\n{% endfor %}\n{% if add_generation_prompt %}\n<tool>answer\n{% endif %}\n",
    "tools": "{%- set ns = namespace(last=-1, seen=false) -%}\n{%- for message in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}{% if not ns.seen and message.role == 'user' %}"
             "{% set ns.seen = true %}{% set ns.last = index %}{% endif %}{% endfor %}\n{%- if tools %}\n{{- '# Tools' }}\n{%- for tool in tools %}\n{{- '\\n' }}{{ tool | tojson }}\n{%- endfor %}\n"
             "{{- '\\n' ~ tools | tojson(indent=2) ~ '\\n' }}\n{%- endif %}\n{%- for message in messages %}\n{%- set content = message.content if message.content is string else '' %}\n"
             "{%- if message.role == 'assistant' %}\n{%- set thought = '' %}\n{%- if message.reasoning_content is defined and message.reasoning_content is not none %}{% set thought = message.reasoning_content %}\n"
             "{%- elif '</think>' in content %}\n{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n{%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n{%- endif %}\n"
             "{%- if loop.index0 > ns.last or loop.last %}\n{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}\n{%- else %}\n{{- content }}\n{%- endif %}\n"
             "{%- for call in message.tool_calls or [] %}\n{%- if call.function %}{% set call = call.function %}{% endif %}\n{{- '\\n<tool>{\"name\": \"' ~ call.name ~ '\", \"arguments\": ' }}"
             "{% if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.arguments | tojson }}{% endif %}{{ '}' }}\n{%- endfor %}\n{%- else %}\n{{- message.role + ': ' + content }}\n{%- endif %}\n{{- '<|end|>\\n' }}\n"
             "{%- endfor %}\n{%- if add_generation_prompt %}\n{{- 'assistant: ' }}\n{%- if enable_thinking is defined and enable_thinking is false %}\n{{- '<think>\\n\\n</think>\\n\\n' }}\n{%- endif %}\n{%- endif %}",
    "training": "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}\n{% else %}U:{{ m.content }}\n{%- generation -%} x {%- endgeneration %}{% endif %}{% endfor %}",
    "python": "{% macro line(name, value='-') %}{{ name }}={{ value }};{% endmacro %}{%- for m in messages -%}{% if m.content.startswith('skip') %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}"
              "{{ line('title', m.content.title()) }}{{ line('cap', m.content|capitalize) }}{{ line('up', m.content.upper()) }}{{ line('strip', '[' ~ m.content.strip() ~ ']') }}{{ line('l', m.content.lstrip()) }}"
              "{{ line('trim', m.content | trim) }}{{ line('rep', m.content.replace('a', 'bb')) }}{{ line('rep1', m.content.replace('a', 'bb', 1)) }}{{ line('repl', m.content|replace('o', '0')) }}{{ line('split', m.content.split()) }}"
              "{{ line('split2', m.content.split(' ', 1)) }}{{ line('parts', m.content.split('a')|join('|')) }}{{ line('join', ','.join(m.content.split())) }}{{ line('find', m.content.find('a')) }}{{ line('count', m.content.count('a')) }}"
              "{{ line('ends', m.content.endswith(('a', 'e'))) }}{{ line('len', m.content|length) }}{{ line('slice', m.content[1:4]) }}{{ line('neg', m.content[-3:]) }}{{ line('rev', m.content[::-1]) }}{{ line('idx', m.content[0] if m.content else none) }}"
              "{{ line('prev', loop.previtem.role if loop.previtem is defined else none) }}{{ line('cycle', loop.cycle('a', 'b')) }}{{ line('keys', m.keys()|list) }}{{ line('get', m.get('none', 'default')) }}{{ line('get0', m.get('none')) }}{{ line() }}"
              "{% for key, value in m.items() %}{{ line(key, value) }}{% endfor %}{% for key, value in m|items %}{{ line(key, value|string) }}{% endfor %}{{ line('seq', [m.content is sequence, m is sequence, m is mapping, m.content is iterable, m.content is string]) }}\n{% endfor -%}"
              "{{ messages | map(attribute='role') | list }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'in', ['user']) | map(attribute='content') | join('/') }}"
              "{{ true }} {{ none }} {{ 1 / 2 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 3 }} {{ 1.0 }} {{ [1, 'a', true, none, {'k': 1.5}] }} {{ {'b': 1, 'a': [2]} | tojson }} {{ 'é<&>\"' | tojson }} {{ 'é' | tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}"
              " {{ {'b': 1} | tojson(separators=(',', ':')) }} {{ range(3) | list }} {{ undefined_thing }}|{{ undefined_thing | default('d') }} {{ 'a' ~ 1 ~ none ~ true }} {{ dict(a=1, b='x') }} {{ (1, 2) }} {{ 'x' * 3 }} {{ 'yes' if messages and not tools else 'no' }} {{ 5 is odd }}"
              " {{ [3, 1, 2] | sort }} {{ [1, 2, 3] | sum }} {{ [1, 2] + [3] }} {{ 'abc' | first }} {{ [1, 2] | last }} {{ ['a', 'a'] | unique | list }} {{ {'b': 1, 'a': 2} | dictsort }} {{ -3 | abs }} {{ '3' | int + 1 }} {{ 2.567 | round(1) }} {{ 'a b' | wordcount }}"
              "{% set x %}  block {{ 1 }} {% endset %}[{{ x }}]{% set ns = namespace(n=0) %}{% for i in range(4) if i is even %}{% set ns.n = ns.n + i %}{% else %}none{% endfor %}{{ ns.n }}{% filter upper %}filtered{% endfilter %}{% raw %}{{ raw }}{% endraw %}"
              "{% for a in [] %}{% else %}empty{% endfor %}{{ 'in' if 'b' in 'abc' }}{{ 'x' if false }}{{ \"%s-%d\" | format('a', 3) }}{{ '{} {}'.format(1, 'z') }}",
    "parts": "{%- macro show(content, depth=0) -%}\n  {%- if content is string -%}{{ content }}\n  {%- elif content is mapping -%}{{ content.type }}:{{ content['text'] if 'text' in content else '' }}\n  {%- elif content is iterable -%}"
             "{%- for part in content if part.type is defined -%}{{ show(part, depth + 1) }}{{ ', ' if not loop.last }}{%- endfor -%}\n  {%- elif content is none or content is undefined -%}nothing\n  {%- else -%}{{ raise_exception('what is ' ~ content) }}\n  {%- endif -%}\n{%- endmacro -%}\n"
             "{%- set ns = namespace(lines=[], first=true, system='') -%}\n{%- set systems = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | list -%}\n{%- if systems and systems[0] is string %}{% set ns.system = systems | first | trim %}{% endif -%}\n"
             "{%- set rest = messages | rejectattr('role', 'equalto', 'system') | list -%}\n{%- for message in rest[:-1] + rest[-1:] -%}\n{%- set ns.lines = ns.lines + [message.role] -%}\n{%- set role, body = message.role, show(message.content) -%}\n"
             "    {%- if ns.first and ns.system -%}\n    {{ bos_token }}{{ ns.system }}\n{% endif %}\n    {%- set ns.first = false %}\n  <tool>{{ role | title }}: {{ body.replace('\x1c', '') | indent(2) }}\n    {%+ if loop.last %}last{% endif +%}\n"
             "  {% for line in body.split('\\n') if line.strip() is not eq '' %}\n  {{ loop.index }}/{{ loop.length }} {{ line[:5] ~ '..' if line | length > 5 else line }}\n  {% else %}\n  none\n  {% endfor %}\n"
             "{% endfor -%}\n{{ ns.lines | join(' ') }} {{ ns.lines[-1] == 'user' and not tools }} {{ (messages | last).role in ['user', 'tool'] }} {{ messages[0]['role'] ~ messages[0].get('name', '') }}\n"
             "{% if tools is not none and tools is defined %}{% for tool in tools %}{% for key, value in tool.function.parameters.properties | dictsort %}{{ key }}={{ value | tojson }};{% endfor %}{{ tool.function | tojson(indent=4) }}{% endfor %}{% endif %}"
             "{%- if add_generation_prompt is true and messages[-1].role != 'assistant' -%}answer:{%- endif -%}",
    "named": [{"name": "default", "template": "default {{ messages[0].content }}"}, {"name": "tool_use", "template": "tools {{ tools[0].name }} {{ messages[0].content }}"}],
}
QUESTION = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "The capital is Paris. "}
SYSTEM = {"role": "system", "content": "  Answer in one word.\n"}
AGAIN = {"role": "user", "content": " Việt Mary\n\n日本語 e\u0301 <tool> <|special|> 'x' \"y\" \\ \x1c\t"}
TOOLS = [{"type": "function", "name": "look", "function": {"name": "look", "description": "Looks <b>up</b> é", "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "number", "default": 1.0}}, "required": []}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"z": "é\"", "a": 1.5, "n": None, "t": True, "l": [1, 2]}}}]}
CONVERSATIONS = [
    ([QUESTION], {}), ([SYSTEM, QUESTION], {}), ([QUESTION, ANSWER, AGAIN], {}), ([SYSTEM, QUESTION, ANSWER, AGAIN, ANSWER], {}), ([AGAIN], {"enable_thinking": False, "date_string": "1 Jan"}),
    ([QUESTION, CALL, {"role": "tool", "content": "{\"x\": 1}"}, QUESTION], {"tools": TOOLS}), ([QUESTION, {**ANSWER, "content": "<think>\nhm\n</think>\n\nParis"}], {}),
    ([QUESTION, {**ANSWER, "reasoning": "because"}], {}), ([SYSTEM, {"role": "user", "content": [{"type": "text", "text": "Look\n at this"}, {"type": "image"}, {"x": 1}]}, ANSWER, {"role": "user", "content": None, "name": "Ann"}], {}), ([ANSWER, QUESTION], {}), ([{"role": "user", "content": "skip"}, {"role": "user", "content": "a banana ate me"}, {"role": "user", "content": ""}], {}),
]
chats = []
for name, template in TEMPLATES.items():
    tokenizer = AutoTokenizer.from_pretrained(f"{OUT}/llama3")
    tokenizer.chat_template = {entry["name"]: entry["template"] for entry in template} if isinstance(template, list) else template
    for index, (messages, variables) in enumerate(CONVERSATIONS):
        ends = ["answer", "closed"] + (["continued"] if messages[-1]["role"] == "assistant" else [])
        for end in ends:
            chat = {"template": name, "conversation": index, "end": end}
            options = dict(add_generation_prompt=end == "answer", continue_final_message=end == "continued", **variables)
            try:
                chat["text"] = tokenizer.apply_chat_template(messages, tokenize=False, **options)
                if name in ("chatml", "header", "alternating"):
                    chat["ids"] = tokenizer.apply_chat_template(messages, return_dict=False, **options)
            except Exception as error:  # whatever the template refuses
                chat["error"] = str(error)
            chats.append(chat)
with open(f"{OUT}/chats.json", "w") as file:
    json.dump({"templates": TEMPLATES, "conversations": CONVERSATIONS, "chats": chats}, file, ensure_ascii=True, separators=(",", ":"))
