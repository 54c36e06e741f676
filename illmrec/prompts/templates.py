"""The fixed parts of a prompt: the task, the retrieval instruction, and the 20 questions of RISA.

The paper prints the retrieval instruction and one example of a question (sections 3.2 and 3.3); the other wordings
are ours, in the same form: four properties of the next item, five questions each (Appendix D.1).
"""

from __future__ import annotations

TASK = "The items that a user has interacted with, from the oldest to the most recent:"
INSTRUCTION = "Generate a recommendation token for the next item to be consumed:"

PROPERTIES = ("brand", "category", "title", "description")

QUESTIONS: dict[str, tuple[str, ...]] = {
    "brand": (
        "What brand is this user likely to consume for the next item?",
        "Which brand will the next item of this user come from?",
        "From what brand would this user choose an item next?",
        "Name the brand of the item that this user wants next.",
        "Judging by the history, which brand comes next?",
    ),
    "category": (
        "What category does the next item of this user belong to?",
        "Which kind of item will this user look for next?",
        "In what category would this user choose an item next?",
        "Name the category of the item that this user wants next.",
        "Judging by the history, which category comes next?",
    ),
    "title": (
        "What is the title of the next item of this user?",
        "Which item will this user choose next?",
        "What is the next item called?",
        "Name the item that this user wants next.",
        "Judging by the history, which title comes next?",
    ),
    "description": (
        "How would you describe the next item of this user?",
        "What are the features of the item that this user will choose next?",
        "What does the next item look like and what is it for?",
        "Describe the item that this user wants next.",
        "Judging by the history, what description fits the next item?",
    ),
}

ANSWERS: dict[str, str] = {
    "brand": " The brand of the next item is {value}.",
    "category": " The category of the next item is {value}.",
    "title": " The title of the next item is {value}.",
    "description": " The next item: {value}",
}
