"""Delay models: how the hazard an infected node exerts on another depends on the time since.

Every model is a hazard shape ``h(D)`` and its integral ``H(D)``, which the rate of a pair
multiplies: u infects v by delay ``D`` with probability ``1 - exp(-rate * H(D))``. Inference divides
times by the median candidate delay, the *internal unit*; start values and priors are stated in it,
and `Delay.rescale` and `Delay.rate_exponent` translate back to the user's unit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DELAYS",
    "Decay",
    "Delay",
    "Exponential",
    "LogNormal",
    "PowerLaw",
    "Rayleigh",
    "Weibull",
    "get_delay",
]

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class Delay:
    """A delay model without state; its parameters ``theta`` are passed to every method.

    ``theta`` is float64 of shape ``(len(parameters),)``, in the order of `parameters`. The methods
    of `delay` arrays accept any shape, return float64 of the same shape, and do not check their
    input: `check_parameters` is for the boundary. A new model sets the class attributes and
    overrides `log_hazard`, `cumulative`, `inverse_cumulative`, `rescale` and `rate_exponent`.

    Attributes
    ----------
    name : str
        What the user writes: ``delay="weibull"``.
    parameters : tuple of str
        Names of the parameters, empty for models without any.
    start : tuple of float
        Start values, internal unit; see `default`.
    positive : tuple of bool
        Whether a parameter is positive (unconstrained by its logarithm) or real (left as it is).
    prior : tuple of (float, float)
        Location and standard deviation of the normal prior of each unconstrained parameter.
    """

    name: str = ""
    parameters: tuple[str, ...] = ()
    start: tuple[float, ...] = ()
    positive: tuple[bool, ...] = ()
    prior: tuple[tuple[float, float], ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def default(self) -> NDArray[np.float64]:
        """Start values of the parameters in the internal unit (median candidate delay = 1)."""
        return np.array(self.start, dtype=np.float64)

    def check_parameters(self, theta: ArrayLike | None) -> NDArray[np.float64]:
        """Parameters given by a user as a float64 array; None stands for `default`.

        Raises
        ------
        ValueError
            If their number is wrong, or one is not finite, or one that must be positive is not.
        """
        if theta is None:
            return self.default()
        values = np.atleast_1d(np.asarray(theta, dtype=np.float64))
        if values.shape != (len(self.parameters),):
            expected = ", ".join(self.parameters) or "no parameters"
            raise ValueError(
                f"theta of the delay {self.name!r} must hold {expected}; got {values.size} value(s)"
            )
        for name, positive, value in zip(self.parameters, self.positive, values, strict=True):
            if not np.isfinite(value) or (positive and value <= 0):
                wanted = "positive and finite" if positive else "finite"
                raise ValueError(
                    f"theta: {name} of the delay {self.name!r} must be {wanted}; got {value}"
                )
        return values

    def log_hazard(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        """Logarithm of h(D) for ``delay`` > 0; -inf where the hazard is zero."""
        raise NotImplementedError

    def cumulative(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        """H(D), the integral of h over [0, D], for ``delay`` >= 0; inf is allowed."""
        raise NotImplementedError

    def inverse_cumulative(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        """The delay with H(D) = x for ``x`` >= 0; inf where no finite delay reaches it."""
        raise NotImplementedError

    def to_unconstrained(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Parameters on the whole real line: logarithms of the positive ones."""
        phi = np.array(theta, dtype=np.float64)
        positive = np.array(self.positive, dtype=bool)
        phi[positive] = np.log(phi[positive])
        return phi

    def from_unconstrained(self, phi: ArrayLike) -> NDArray[np.float64]:
        """Inverse of `to_unconstrained`."""
        theta = np.array(phi, dtype=np.float64)
        positive = np.array(self.positive, dtype=bool)
        theta[positive] = np.exp(theta[positive])
        return theta

    def log_prior_unconstrained(self, phi: ArrayLike) -> float:
        """Log prior density of the unconstrained parameters, internal unit, normalised.

        It is a density of ``phi`` itself: the Jacobian of the logarithm is included. Without
        parameters it is 0. Each class states its numbers.
        """
        total = 0.0
        for value, (mean, sd) in zip(np.atleast_1d(phi), self.prior, strict=True):
            total -= 0.5 * ((float(value) - mean) / sd) ** 2 + math.log(sd) + _LOG_SQRT_2PI
        return total

    def rescale(self, theta: ArrayLike, unit: float) -> NDArray[np.float64]:
        """Parameters in the user's unit, where user time = ``unit`` * internal time.

        Together with `rate_exponent` it leaves rate * H(D) unchanged.
        """
        return np.array(theta, dtype=np.float64)

    def rate_exponent(self, theta: ArrayLike) -> float:
        """Exponent e in: rate in the user's unit = internal rate / unit**e.

        ``theta`` may be in either unit: the exponent has none.
        """
        raise NotImplementedError


class Exponential(Delay):
    """Constant hazard: h(D) = 1, H(D) = D. The rate is transmissions per unit time."""

    name = "exponential"

    def log_hazard(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        return np.zeros(np.shape(delay))[()]

    def cumulative(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        return np.array(delay, dtype=np.float64)[()]

    def inverse_cumulative(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        return np.array(x, dtype=np.float64)[()]

    def rate_exponent(self, theta: ArrayLike) -> float:
        return 1.0


class Rayleigh(Delay):
    """Hazard growing linearly: h(D) = D, H(D) = D**2 / 2."""

    name = "rayleigh"

    def log_hazard(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        return np.log(delay)

    def cumulative(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(delay))
        np.multiply(delay, delay, out=out)
        out *= 0.5
        return out[()]

    def inverse_cumulative(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(x))
        np.multiply(x, 2.0, out=out)
        np.sqrt(out, out=out)
        return out[()]

    def rate_exponent(self, theta: ArrayLike) -> float:
        return 2.0


class PowerLaw(Delay):
    """Hazard falling as 1/D from a dead time on: h(D) = 1/D, H(D) = log(D/delta) for D > delta.

    Both are zero for D <= delta. Starts at delta = 0.01; prior log delta ~ Normal(log 0.01, 2),
    which puts 95% of delta between 2e-4 and 0.5 median candidate delays. delta cannot exceed the
    longest candidate delay of any infection, so it should start low.
    """

    name = "powerlaw"
    parameters = ("delta",)
    start = (0.01,)
    positive = (True,)
    prior = ((math.log(0.01), 2.0),)

    def log_hazard(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(delay))
        np.log(delay, out=out)
        np.negative(out, out=out)
        out[np.less_equal(delay, theta[0])] = -np.inf
        return out[()]

    def cumulative(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        # Dividing, not subtracting logarithms: exactly 0 at and below delta.
        out = np.empty(np.shape(delay))
        np.maximum(delay, theta[0], out=out)
        out /= theta[0]
        np.log(out, out=out)
        return out[()]

    def inverse_cumulative(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(x))
        with np.errstate(over="ignore"):  # delays beyond the largest float never happen
            np.exp(x, out=out)
            out *= theta[0]
        return out[()]

    def rescale(self, theta: ArrayLike, unit: float) -> NDArray[np.float64]:
        return np.array([theta[0] * unit])

    def rate_exponent(self, theta: ArrayLike) -> float:
        return 0.0


class Weibull(Delay):
    """Hazard rising or falling by a power: h(D) = k D**(k-1), H(D) = D**k.

    Starts at k = 1, the exponential; prior log k ~ Normal(0, 0.5), which puts 95% of k between
    0.38 and 2.7.
    """

    name = "weibull"
    parameters = ("k",)
    start = (1.0,)
    positive = (True,)
    prior = ((0.0, 0.5),)

    def log_hazard(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        k = theta[0]
        out = np.empty(np.shape(delay))
        np.log(delay, out=out)
        out *= k - 1.0
        out += math.log(k)
        return out[()]

    def cumulative(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(delay))
        np.power(delay, theta[0], out=out)
        return out[()]

    def inverse_cumulative(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(x))
        with np.errstate(over="ignore"):
            np.power(x, 1.0 / theta[0], out=out)
        return out[()]

    def rate_exponent(self, theta: ArrayLike) -> float:
        return float(theta[0])


class Decay(Delay):
    """Influence that fades: h(D) = w exp(-w D), H(D) = 1 - exp(-w D).

    The rate is the total hazard ever exerted: the pair transmits at all with probability
    ``1 - exp(-rate)``. Starts at w = 1; prior log w ~ Normal(0, 2), which puts 95% of the mean
    memory 1/w between 0.02 and 50 median candidate delays.
    """

    name = "decay"
    parameters = ("w",)
    start = (1.0,)
    positive = (True,)
    prior = ((0.0, 2.0),)

    def log_hazard(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        w = theta[0]
        out = np.empty(np.shape(delay))
        np.multiply(delay, -w, out=out)
        out += math.log(w)
        return out[()]

    def cumulative(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(delay))
        np.multiply(delay, -theta[0], out=out)
        np.expm1(out, out=out)
        np.negative(out, out=out)
        return out[()]

    def inverse_cumulative(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        out = np.empty(np.shape(x))
        np.minimum(x, 1.0, out=out)
        np.negative(out, out=out)
        with np.errstate(divide="ignore"):  # x >= 1 gives -log 0 = inf, as it should
            np.log1p(out, out=out)
        out /= -theta[0]
        return out[()]

    def rescale(self, theta: ArrayLike, unit: float) -> NDArray[np.float64]:
        return np.array([theta[0] / unit])

    def rate_exponent(self, theta: ArrayLike) -> float:
        return 0.0


class LogNormal(Delay):
    """Influence that builds up, then fades: h and H are the lognormal density and distribution.

    log D has mean mu and standard deviation s; the rate is the total hazard ever exerted. Starts at
    mu = 0, s = 1; prior mu ~ Normal(0, 2) and log s ~ Normal(0, 0.75), independent, which put 95%
    of exp(mu) between 0.02 and 50 median candidate delays and of s between 0.23 and 4.3.
    """

    name = "lognormal"
    parameters = ("mu", "s")
    start = (0.0, 1.0)
    positive = (False, True)
    prior = ((0.0, 2.0), (0.0, 0.75))

    def log_hazard(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        # The factor 1/D of the density is absorbed by completing the square in log D, so that one
        # array is enough: -(y - mu)^2 / 2 s^2 - y = -(y - mu + s^2)^2 / 2 s^2 - mu + s^2 / 2.
        mu, s = float(theta[0]), float(theta[1])
        out = np.empty(np.shape(delay))
        np.log(delay, out=out)
        out += s * s - mu
        np.multiply(out, out, out=out)
        out *= -0.5 / (s * s)
        out += 0.5 * s * s - mu - math.log(s) - _LOG_SQRT_2PI
        return out[()]

    def cumulative(self, delay: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        from scipy.special import ndtr

        out = np.empty(np.shape(delay))
        with np.errstate(divide="ignore"):  # delay 0 gives -inf, hence H = 0
            np.log(delay, out=out)
        out -= theta[0]
        out /= theta[1]
        ndtr(out, out=out)
        return out[()]

    def inverse_cumulative(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        from scipy.special import ndtri

        out = np.empty(np.shape(x))
        np.minimum(x, 1.0, out=out)
        ndtri(out, out=out)
        out *= theta[1]
        out += theta[0]
        with np.errstate(over="ignore"):
            np.exp(out, out=out)
        return out[()]

    def rescale(self, theta: ArrayLike, unit: float) -> NDArray[np.float64]:
        return np.array([theta[0] + math.log(unit), theta[1]])

    def rate_exponent(self, theta: ArrayLike) -> float:
        return 0.0


DELAYS: dict[str, Delay] = {
    model.name: model
    for model in (Exponential(), Rayleigh(), PowerLaw(), Weibull(), Decay(), LogNormal())
}


def get_delay(name_or_instance: str | Delay) -> Delay:
    """Delay model of a name; an instance is returned as it is.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the names.
    """
    if isinstance(name_or_instance, Delay):
        return name_or_instance
    if isinstance(name_or_instance, str) and name_or_instance in DELAYS:
        return DELAYS[name_or_instance]
    raise ValueError(
        f"delay must be one of {', '.join(DELAYS)}, or a Delay; got {name_or_instance!r}"
    )
