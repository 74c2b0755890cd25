"""The code model's vocabulary: the words of compact renderings, whole; bytes for everything else."""

from functools import cache
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tiny_model.tokenizer import CHAT_TEMPLATE, END, PAD, ROLES
from turnwise_envs.swe.compact import vocabulary

_SPOKEN: Final = """
fix fails still passes error: file at test wrong no such edit line change place before already tried expected episode is
over the unknown tool needs to be a whole number one of it hidden tests fail pass solved limit turns
"""


@cache
def word_list() -> tuple[str, ...]:
    """List all words that are one token after a space, in the order of their ids."""
    return tuple(dict.fromkeys([*_SPOKEN.split(), *vocabulary()]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer: special tokens first, then the 256 bytes, then the words with their space."""
    specials = [END, PAD, *ROLES]
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*specials, *symbols, *("Ġ" + word for word in word_list())]
    tokenizer = Tokenizer(
        models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], ignore_merges=True)
    )
    words = pre_tokenizers.Split(Regex(r" ?[^ \n]+|\s"), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
