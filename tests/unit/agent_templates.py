"""Chat templates of the kinds that models have, and a small tokenizer that carries one of them."""

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)

# Qwen3's ways: schemas in the system message, answers of tools gathered in one user message, and thoughts only kept
# after the last question.
QWEN = (
    "{%- set ns = namespace(last=0) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}"
    "{%- if tools -%}{{ '<|im_start|>system\n' }}"
    "{%- if messages[0].role == 'system' -%}{{ messages[0].content + '\n\n' }}{%- endif -%}"
    "{{ '# Tools\n' }}{%- for t in tools -%}{{ t | tojson + '\n' }}{%- endfor -%}{{ '<|im_end|>\n' }}"
    "{%- elif messages[0].role == 'system' -%}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{%- endif -%}"
    "{%- for m in messages -%}"
    "{%- if m.role == 'user' -%}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{%- elif m.role == 'assistant' -%}"
    "{%- set thought = m.content.split('</think>')[0] if '</think>' in m.content else '' -%}"
    "{%- set said = m.content.split('</think>')[-1].lstrip('\n') -%}"
    "{{ '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) -%}"
    "{{ '<think>\n' + thought.replace('<think>', '').strip('\n') + '\n</think>\n\n' }}"
    "{%- endif -%}{{ said + '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' -%}"
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ '<|im_end|>\n' }}{%- endif -%}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)

# Llama 3's ways: a first token of its own, contents trimmed, answers of tools written as JSON.
LLAMA = (
    "{{ bos_token }}{%- for m in messages -%}"
    "{%- set role = 'ipython' if m.role == 'tool' else m.role -%}"
    "{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}"
    "{{ (m.content | tojson if m.role == 'tool' else m.content | trim) + '<|eot_id|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}"
)

# The tiny model's: a space before each content.
SPACED = (
    "{%- for m in messages -%}{{ '<|' + m.role + '|> ' + m.content + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)

TEMPLATES = {"chatml": CHATML, "qwen": QWEN, "llama": LLAMA, "spaced": SPACED}

# Opens a thought for the model and removes it from earlier messages.
THINKING = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}")
# Numbers the messages from the end.
COUNTDOWN = (
    "{%- for m in messages -%}"
    "{{ '<|im_start|>' + (loop.revindex | string) + ' ' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
# Shows the last messages only.
WINDOW = CHATML.replace("in messages", "in messages[-3:]")
ENDLESS = (
    "{%- for m in messages -%}{{ '### ' + m.role + ': ' + m.content + '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '### assistant: ' }}{%- endif -%}"
)

SPECIALS = (
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|im_start|>", "<|im_end|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"),
)
CORPUS = ["the user asks the assistant about tools and the tool answers it", "\n\n  \n search open page answer"]
WORDS = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+")


@cache
def backend() -> str:
    """A byte-level BPE with some merges, as JSON; like Llama 3 and Qwen it cuts after line breaks."""
    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(WORDS, "isolated")
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, spell])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    return tokenizer.to_str()


def tokenizer_with(template: str | None) -> PreTrainedTokenizerFast:
    """The tokenizer with a chat template, or without one."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(backend()), bos_token="<|begin_of_text|>")
    tokenizer.chat_template = template
    return tokenizer
