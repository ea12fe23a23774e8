"""The life of an instance, as pure functions over facts.

Laws: facts from outside are passive and always true; a status moves only along an edge of `table`; nothing here reads a clock.
"""
