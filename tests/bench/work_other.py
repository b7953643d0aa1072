"""Works of SciPy, POT and faiss: exact optimal transport and k-nearest-neighbour distances."""
import os

import numpy as np

import data


class Coupling:
    """Squared distances and the least-cost matching of one batch."""

    steps = 1

    def __init__(self, mode, p):
        self.mode, self.p = mode, p
        self.x0, self.x1 = (np.load(os.path.join(p["pools"], f)) for f in ("x0.npy", "x1.npy"))
        if mode == "POT":
            import ot

            self.pot, self.uniform = ot, ot.unif(len(self.x0))

    def cost(self):
        from scipy.spatial.distance import cdist

        return cdist(self.x0, self.x1, "sqeuclidean")

    def pairs(self):
        from scipy.optimize import linear_sum_assignment

        cost = self.cost()
        if self.mode == "POT":
            plan = self.pot.emd(self.uniform, self.uniform, cost, numThreads=1)
            return np.argmax(plan, 1), cost
        return linear_sum_assignment(cost)[1], cost

    def run(self):
        self.pairs()

    def check(self):
        to, cost = self.pairs()
        i0, i1 = (np.load(os.path.join(self.p["pools"], f)).reshape(-1).astype(int) for f in ("i0.npy", "i1.npy"))
        theirs = cost[np.arange(len(to)), to].sum()
        return {"cost": abs(float(cost[i0, i1].sum() / theirs - 1))}


class Knn:
    """Wang, Kulkarni & Verdu's estimator from the k-th distances within P and to Q."""

    steps = 1

    def __init__(self, mode, p):
        self.mode, self.p = mode, p
        self.x, self.y = (np.load(os.path.join(p["samples"], f)) for f in ("p.npy", "q.npy"))
        if mode == "faiss":
            import faiss

            faiss.omp_set_num_threads(p["threads"])
            self.faiss = faiss
            self.x, self.y = (np.ascontiguousarray(a, np.float32) for a in (self.x, self.y))

    def distance(self, to, k):
        if self.mode == "faiss":
            index = self.faiss.IndexFlatL2(to.shape[1])
            index.add(to)
            return np.sqrt(index.search(self.x, k)[0][:, k - 1].astype(np.float64))
        from scipy.spatial import cKDTree

        return cKDTree(to).query(self.x, k=[k], workers=self.p["threads"])[0][:, 0]

    def value(self):
        k, (n, d), m = self.p["k"], self.x.shape, len(self.y)
        within, across = self.distance(self.x, k + 1), self.distance(self.y, k)
        return d * float(np.mean(np.log(across / within))) + np.log(m / (n - 1))

    def run(self):
        self.value()

    def check(self):
        return {"value": abs(self.value() - self.p["value"]) / max(abs(self.p["value"]), 1e-3)}


def make(mode, p):
    return {"coupling": Coupling, "knn": Knn}[p["work"]](mode, p)
