"""The tiny model's vocabulary and chat format: one token a known word, bytes for everything else.

`make` saves the tokenizer beside the weights. Every text survives encoding and decoding unchanged. A word is one
token only after a space; at the start of a text, or misspelt, it falls apart into bytes that the model hardly knows.
Tools passed to the chat template are accepted and left out: their schemas would be noise to this model.
"""

from functools import cache
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from turnwise_envs.search.lexicon import lexicon_words

END: Final = "<|end|>"
PAD: Final = "<|pad|>"
ROLES: Final = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
NUM_NUMBERS: Final = 512  # " 0" to " 511" are one token each

CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}"
    "{{ raise_exception('unknown role ' + message['role']) }}"
    "{%- endif -%}"
    "{{ '<|' + message['role'] + '|> ' + (message['content'] or '') + '<|end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)

_SEARCH_WORDS: Final = "What is the of a search open answer error no page unknown tool nothing found expected or"

_COMMON_WORDS: Final = """
an and are as at be been but by can cannot could did do does done each for from get gets give given had has have he her
here him his how I if in into it its let many may me might more most much must my need new next not now off old on only
other our out over own per same say says see she should so some such than that their them then there these they this
those to too under until up us use used very was we were when where which while who whom why will with would yet you
your The Yes No You Your Please Try Now Do Not One It If In We He She They This That
left right down north south east west forward back turn go move walk push pull take drop pick put stay jump climb enter
red green blue yellow orange purple black white grey brown pink
yes no true false ok done higher lower equal above below greater less high low big small long short
hit stick card cards dealer player sum ace deal bust win lose draw game round score point points
state states action actions reward rewards step steps turn turns goal start end agent task episode policy value
guess guesses correct incorrect wrong try tries again good bad best better worse hint secret number numbers letter word
words target between range ready stop wait start begin finish success failed failure invalid valid legal illegal allowed
zero one two three four five six seven eight nine ten eleven twelve twenty hundred first second third last
A B C D E F G H J K L M N O P Q R S T U V W X Y Z b c d e f g h i j k l m n o p q r s t u v w x y z
key door box ball room wall floor ice hole lake map grid cell row column position here near far
read write list find show run test tests file files line code edit submit pass fail print name names type kind list
click press select type button link form input menu title text item items price buy cart total order page pages site
message messages user system assistant ask tell reply question questions fact facts sentence story summary
day days week month year hour minute time morning night today
topic source sources cite citation citations result results query topic report check add subtract plus minus
times divide equals half double even odd sort copy repeat reverse max min
"""

_SPACED_MARKS: Final = "| ; : = - + ( [ { < > # * / & ' \" ! ? . , -> => <= >= == != ... -- ** %"


def common_words() -> list[str]:
    """List words that other small environments use; repeats are possible."""
    return _COMMON_WORDS.split()


@cache
def word_list() -> tuple[str, ...]:
    """List all words and marks that are one token after a space, each once, in the order of their ids."""
    numbers = [str(number) for number in range(NUM_NUMBERS)]
    words = [*_SEARCH_WORDS.split(), *lexicon_words(), *_SPACED_MARKS.split(), *common_words(), *numbers]
    return tuple(dict.fromkeys(words))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer: special tokens first, then the 256 bytes, then the words with their space."""
    specials = [END, PAD, *ROLES]
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*specials, *symbols, *("Ġ" + word for word in word_list())]
    bpe = models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
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
