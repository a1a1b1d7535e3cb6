"""A model that knows no weather: it asks the tool `get_weather`, and answers with what that says (`scripted_model.py`).

For the agents in Python and in Node: what they are told then is known in full.
"""

from scripted_model import Conversation, Said

CITIES = ("Paris", "Rome")


def weather(conversation: Conversation) -> Said:
    """Calls the tool for each city of the last question. Where that names none, it tells which cities were named before."""
    if conversation.format:
        return Said('{"city":"Paris","degrees":18}')
    asked = [city for city in CITIES if city in conversation.question]
    if not asked:
        return Said("You asked about " + " and ".join(city for city in CITIES if city in conversation.said_by("user")) + ".")
    if not conversation.results:
        return Said(reasoning="I do not know.", calls=[("get_weather", {"city": city}) for city in asked])
    return Said(" ".join(conversation.results))
