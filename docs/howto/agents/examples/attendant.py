"""Sends callers to the number that belongs to the digit they press; stays with them where that fails."""

from media.python_agent import Call, Refused


async def agent(call: Call) -> None:
    call.answer()
    async for digit in call.digits():
        target = call.parameters.get(f"number_{digit}")  # on the agent's record: {"number_1": "+14155550123"}
        if target is None:
            continue
        try:
            await call.transfer(target)
        except Refused as why:
            print(f"{call.from_number} was not transferred: {why}")
            call.send_digits("0")  # the phone hears a digit
