"""The code model's vocabulary: a token for each word that a small view of code may hold, bytes for everything else.

The chat format is the tiny model's.
"""

import builtins
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tiny_model.tokenizer import CHAT_TEMPLATE, END, PAD, ROLES
from turnwise_envs.swe.compact import vocabulary

TOLD = "fails at passes ; | fix error : not to be tried Timeout Exit"
"""What the environment says beside the code, and the tool's name."""


@cache
def word_list() -> tuple[str, ...]:
    """List all words that are one token after a space, each once, in the order of their ids."""
    errors = [name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    return tuple(dict.fromkeys([*TOLD.split(), *vocabulary(), *sorted(errors)]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer: special tokens, the 256 bytes, then the words with the space before them."""
    specials = [END, PAD, *ROLES]
    entries = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"Ġ{word}" for word in word_list())]
    words = Tokenizer(models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], ignore_merges=True))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
