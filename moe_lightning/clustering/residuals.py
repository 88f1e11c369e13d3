"""Remove the linear trace of nuisance variables from embeddings."""

from dataclasses import dataclass

import numpy as np

SMALLEST_VARIANCE = 1e-4
"""Relative to the largest: directions with hardly any variance are left alone, not amplified."""


@dataclass(frozen=True)
class Removal:
    """A low-rank projection: identity minus ``write_DJ read_JD``."""

    write_DJ: np.ndarray
    read_JD: np.ndarray

    def apply(self, rows_ND: np.ndarray) -> np.ndarray:
        """Rows (centred like those of the fit) without the trace."""
        return rows_ND - (rows_ND @ self.read_JD.T) @ self.write_DJ.T


def fit_removal(rows_ND: np.ndarray, nuisance_NJ: np.ndarray) -> Removal:
    """The smallest change after which no linear function of the rows predicts the variables.

    Least-squares concept erasure (Belrose et al., "LEACE: Perfect linear concept erasure in closed form", 2023,
    theorem 4.2): in the whitened space, drop the directions of the cross-covariance. Only the fit needs the
    variables; new audio is transformed without them.

    Args:
        rows_ND: Centred.
        nuisance_NJ: A constant column removes nothing.
    """
    values, vectors = np.linalg.eigh(rows_ND.T @ rows_ND / len(rows_ND))
    is_kept = values > SMALLEST_VARIANCE * values.max(initial=0)
    roots, basis_DC = np.sqrt(values[is_kept]), vectors[:, is_kept]
    centred_NJ = nuisance_NJ - nuisance_NJ.mean(axis=0)
    deviation_J = centred_NJ.std(axis=0)
    centred_NJ = centred_NJ[:, deviation_J > 0] / deviation_J[deviation_J > 0]
    whitened_NC = rows_ND @ basis_DC / roots
    directions_CJ = np.linalg.qr(whitened_NC.T @ centred_NJ)[0]
    return Removal((basis_DC * roots) @ directions_CJ, (basis_DC / roots @ directions_CJ).T)
