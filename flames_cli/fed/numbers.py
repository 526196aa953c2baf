"""Numbers of a message: Python counts true and false among the integers, a message's numbers do not."""


def read_integer(value: object, name: str) -> int:
    """Return `value` if it is an integer; `name` is for the error.

    Raises:
        TypeError: it is another type, such as a boolean.
    """
    if type(value) is not int:
        raise TypeError(f"{name} is {type(value).__name__}, expected an integer")
    return value


def read_number(value: object, name: str) -> float:
    """Return `value` as a float if it is a number; `name` is for the error.

    Raises:
        TypeError: it is another type, such as a boolean.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {type(value).__name__}, expected a number")
    return float(value)
