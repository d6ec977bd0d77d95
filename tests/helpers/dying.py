"""A run that is killed, as far as one process can show it."""


class Killed(BaseException):
    """Ends a run at once, as far as this process allows."""


def dying(after):
    """A stop that kills at the n-th safe point."""
    left = iter(range(after - 1, -1, -1))

    def stop():
        if next(left) == 0:
            raise Killed
        return False

    return stop
