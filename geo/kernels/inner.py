"""Kernels that only kernels call: machine code of their own is not loaded where their callers' is in the cache."""

from collections.abc import Callable
from typing import Any

from numba import njit


def inner(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``njit`` with one explicit signature, compiled when the first caller is.

    The code of a caller holds that of everything it calls. Loading each kernel from Numba's cache takes 3 ms, and two
    of three are never called from Python. Arguments are converted to the signature as in an eager kernel; a lazy one
    of Numba would take the types of the first call.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        kernel: Any = njit(**options)(function)
        call_template = getattr(kernel, "get_call_template", None)
        if call_template is None:  # Numba is switched off, and left the function as it was
            return kernel

        def of_the_signature(arguments: Any, keywords: Any) -> Any:
            if not kernel.signatures:
                kernel.compile(signature)
                kernel.disable_compile()
            return call_template(arguments, keywords)

        kernel.get_call_template = of_the_signature
        return kernel

    return decorate
