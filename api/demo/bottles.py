"""What simulated people write into bottles, and what they answer. Every text says that it is simulated."""

_BOTTLES = (
    ("What did you see from your window this morning? (simulated)", "en"),
    ("I am learning to bake bread. What should I try next? (simulated)", "en"),
    ("Which song do you hum without noticing? (simulated)", "en"),
    ("Tell me one good thing about your town. (simulated)", "en"),
    ("Quel est votre café préféré ? (simulé)", "fr"),
    ("Il pleut ici. Et chez vous ? (simulé)", "fr"),
    ("¿Qué libro me recomiendas? (simulado)", "es"),
    ("Was kochst du heute? (simuliert)", "de"),
    ("Qual é o seu lugar favorito à beira-mar? (simulado)", "pt"),
    ("今日はどんな一日でしたか。(シミュレーション)", "ja"),
    ("你那里天气怎么样？（模拟）", "zh"),
)
_REPLIES = (
    "Your bottle came a long way. Greetings! (simulated)",
    "I was just thinking about that. (simulated)",
    "Here the sun is shining. (simulated)",
    "Thank you for writing. I would try it at once. (simulated)",
)


def bottle_text(number: int) -> tuple[str, str]:
    """The text of bottle ``number`` and its language."""
    return _BOTTLES[number % len(_BOTTLES)]


def reply_text(number: int) -> str:
    """Answer ``number``."""
    return _REPLIES[number % len(_REPLIES)]
