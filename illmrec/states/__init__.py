"""States of ``[REC]`` that are computed once: a frozen LLM says the same of a history however often it is asked."""
