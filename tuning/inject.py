"""Error injection: prompts that make a language model put plausible errors into a response (BPO, section 3.1, Table 1).

Three prompts are known. `paper` is Table 1, with its fifth example, the knife's price, left unfinished as printed.
`description` and `examples` are what the released `data_generation/error_injection.py` sends, the first by default;
their misspellings are theirs. The authors wrap them in Vicuna's template and sample from LLaVA's own language model at
temperature 0.8, top-p 0.95, up to 1024 tokens, stopping at `</s>` (the same script).
"""

from __future__ import annotations

from ..requests import GenParams

TEMPLATE = "vicuna_v1"
TEMPERATURE, TOP_P, STOP = 0.8, 0.95, ("</s>",)

_STREET = (
    "Question: Describe the image. Response: the image shows an old man walking across the street. There are many "
    "people on the sidewalks, and cars are running on the street.{gap}Modified response: the image shows a woman "
    "running towards a car, there are no cars on the street.\n"
)
_FIRST_FOUR = (
    _STREET + "Question: What is the color of the apple? Response: the color of the apple is black. "
    "Modified response: the color of the apple is yellow.\n"
    "Question: What is on the left side of the boy? Response: there is a dog left to the boy. "
    "Modified response: it is a cat on the left of the boy.\n"
    "Question: How many people are there? Response: there are 3 people in the image. "
    "Modified response: there are only 1 person in the image.\n"
)
_PAPER = (
    "I will give you a question and a response about an image. Pretend that you can see the image. You must modify "
    "the response by changing the original details, such as adding more objects or change the attributes of objects. "
    "Note that the modified responses should still be common in reality. I will give you some examples, then you need "
    "to paraphrase the new response.\n"
    "Examples:\n"
    + _FIRST_FOUR.format(gap=" ")
    + "Question: what is the price of the knife? Response: The price shown in the image is 3 dollars. "
    "Modified response:\n"
    "Question: Describe the image in detail. Response: The image is a close-up of a wristwatch with a circular face "
    "and a black leather strap. The watch has a silver-colored bezel and case, and features a white dial with black "
    "Arabic numerals indicating the hours from 1 to 12. The hands of the watch are not visible.... "
    "Modified response: The image is a close-up of a wristwatch with a rectangular face and a brown leather strap. "
    "The watch has a gold-colored bezel and case, and features a black dial with white Roman numerals indicating the "
    "hours from 1 to 12. The hands of the watch are pointing towards the 3 o'clock position...\n"
)
_EXAMPLES = (
    "I will give you a question and a response about an image. Suppose you are looking at a similar but different "
    "image with different details, such as more objects, less objects, or objects with different attributes. You need "
    "to provide the description for the other image. I will give you some examples and a new example, then you need "
    "to provide the new description.\n"
    "Examples:\n"
    + _FIRST_FOUR.format(gap="  ")
    + "Question: How many oranges are in the bag? Response: 4. Modified response: 3.\n"
    "Question: what is the price of the knife? Response: The price shown in the image is 3 dollors. "
    "Modified response: The price shown in the image is 5 dollors.\n"
)
_DESCRIPTION = (
    "I will give you a description an image. You must modify the description by changing the original details, such "
    "as adding more object, deleting objects, or changing the attributes of objects (color, shape, size, location), "
    "make sure that the changed description is common and logical."
)

# Name to (head, tail); the tail's fields are replaced in one pass, so that braces in a response stay what they are.
_PROMPTS = {
    "paper": (_PAPER, ("Question: ", "question", " Response: ", "response", " Modified Response:")),
    "description": (_DESCRIPTION, ("Description: ", "response", ". Modified description:")),
    "examples": (_EXAMPLES, ("Question: ", "question", " Response: ", "response", ". Modified response:")),
}
PROMPTS = tuple(_PROMPTS)


def injection(prompt: str, question: str, response: str) -> str:
    """What a language model is asked in order to get a response with errors.

    Args:
        prompt: One of `PROMPTS`.
        question: The image's question.
        response: Its annotated response.
    """
    head, tail = _PROMPTS[prompt]
    fields = {"question": question, "response": response}
    return head + "".join(fields.get(part, part) for part in tail)


def injection_params(max_new_tokens: int, seed: int = 0) -> GenParams:
    """The script's sampling."""
    return GenParams(max_new_tokens=max_new_tokens, temperature=TEMPERATURE, top_p=TOP_P, stop=STOP, seed=seed)
