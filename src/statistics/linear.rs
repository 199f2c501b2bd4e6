//! Ridge regression of one number in 0..=1, on a basis of bent lines.

/// Solves `A x = b` for a symmetric positive definite `A`, given row by row
/// (Cholesky). Rows that are not are nudged until they are.
#[derive(Clone, Debug)]
pub struct Cholesky {
    size: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors `matrix`, `size` by `size`, of which only the lower half is read.
    #[must_use]
    pub fn of(matrix: &[f64], size: usize) -> Self {
        let mut lower = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..=row {
                let (a, b) = (row * size, column * size);
                let dot: f64 = (0..column).map(|k| lower[a + k] * lower[b + k]).sum();
                let rest = matrix[a + column] - dot;
                lower[a + column] = if row == column { rest.max(1e-10).sqrt() } else { rest / lower[b + column] };
            }
        }
        Self { size, lower }
    }

    /// The solution for one right-hand side.
    #[must_use]
    pub fn solve(&self, right: &[f64]) -> Vec<f64> {
        let n = self.size;
        let mut x = right.to_vec();
        for row in 0..n {
            let dot: f64 = (0..row).map(|k| self.lower[row * n + k] * x[k]).sum();
            x[row] = (x[row] - dot) / self.lower[row * n + row];
        }
        for row in (0..n).rev() {
            let dot: f64 = (row + 1..n).map(|k| self.lower[k * n + row] * x[k]).sum();
            x[row] = (x[row] - dot) / self.lower[row * n + row];
        }
        x
    }
}

/// `[1, u, (u-.1)+, (u-.25)+, (u-.5)+, (u-.75)+, (u-.9)+]`.
#[must_use]
pub fn bent_lines(u: f64) -> [f64; 7] {
    let above = |knot: f64| (u - knot).max(0.0);
    [1.0, u, above(0.1), above(0.25), above(0.5), above(0.75), above(0.9)]
}

/// Regressions of many targets on the same numbers: the work that does not
/// depend on the target is done once.
#[derive(Clone, Debug)]
pub struct Regressor {
    rows: Vec<[f64; 7]>,
    factor: Cholesky,
}

impl Regressor {
    /// How strongly slopes are held down, in rows' worth; the level is not.
    const RIDGE: f64 = 2.0;

    /// Prepares for regressions on `states`, each in 0..=1.
    #[must_use]
    pub fn on(states: impl Iterator<Item = f64>) -> Self {
        let rows: Vec<[f64; 7]> = states.map(bent_lines).collect();
        let mut gram = [0.0; 49];
        for row in &rows {
            for (a, x) in row.iter().enumerate() {
                for (b, y) in row.iter().enumerate() {
                    gram[a * 7 + b] += x * y;
                }
            }
        }
        (1..7).for_each(|at| gram[at * 8] += Self::RIDGE);
        gram[0] += 1e-9;
        Self { rows, factor: Cholesky::of(&gram, 7) }
    }

    /// The coefficients for one target per state.
    #[must_use]
    pub fn fit(&self, targets: impl Iterator<Item = f64>) -> Bent {
        let mut right = [0.0; 7];
        for (row, target) in self.rows.iter().zip(targets) {
            row.iter().zip(&mut right).for_each(|(x, sum)| *sum += x * target);
        }
        Bent(self.factor.solve(&right).try_into().unwrap_or_default())
    }
}

/// A line bent at a few places.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bent([f64; 7]);

impl Bent {
    /// Its height at `u`.
    #[must_use]
    pub fn at(&self, u: f64) -> f64 {
        bent_lines(u).iter().zip(&self.0).map(|(x, w)| x * w).sum()
    }
}

/// Ridge regression on sparse rows by conjugate gradients (Hestenes & Stiefel
/// 1952): `columns` weights, for targets whose mean was taken out. Each row
/// lists its places and values.
#[must_use]
pub fn sparse_ridge(rows: &[Vec<(u32, f32)>], targets: &[f64], columns: usize, ridge: f64) -> Vec<f64> {
    const STEPS: usize = 40;
    let times = |weights: &[f64]| -> Vec<f64> {
        rows.iter().map(|row| row.iter().map(|(at, x)| weights[*at as usize] * f64::from(*x)).sum()).collect()
    };
    let transposed = |values: &[f64]| {
        let mut out = vec![0.0; columns];
        for (row, value) in rows.iter().zip(values) {
            row.iter().for_each(|(at, x)| out[*at as usize] += value * f64::from(*x));
        }
        out
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mut weights = vec![0.0; columns];
    let mut residual = transposed(targets);
    let mut direction = residual.clone();
    let mut power = dot(&residual, &residual);
    let enough = power * 1e-8;
    for _ in 0..STEPS {
        if power <= enough {
            break;
        }
        let mut image = transposed(&times(&direction));
        image.iter_mut().zip(&direction).for_each(|(i, d)| *i += ridge * d);
        let step = power / dot(&direction, &image);
        weights.iter_mut().zip(&direction).for_each(|(w, d)| *w += step * d);
        residual.iter_mut().zip(&image).for_each(|(r, i)| *r -= step * i);
        let next = dot(&residual, &residual);
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / power * *d);
        power = next;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bent_line_is_found_again() {
        let states = || (0..2000).map(|i| f64::from(i) / 1999.0);
        let truth = |u: f64| 0.2 + 0.5 * u + (u - 0.5).max(0.0);
        let fit = Regressor::on(states()).fit(states().map(truth));
        for u in [0.0, 0.3, 0.5, 0.8, 1.0] {
            assert!((fit.at(u) - truth(u)).abs() < 0.03, "{u}: {} {}", fit.at(u), truth(u));
        }
    }

    #[test]
    fn conjugate_gradients_solve_the_normal_equations() {
        // X = [[1, 0], [1, 1], [0, 2]], y = [1, 2, 3], ridge 1: (X'X + I) w = X'y.
        let rows = vec![vec![(0, 1.0)], vec![(0, 1.0), (1, 1.0)], vec![(1, 2.0)]];
        let w = sparse_ridge(&rows, &[1.0, 2.0, 3.0], 2, 1.0);
        let direct = Cholesky::of(&[3.0, 1.0, 1.0, 6.0], 2).solve(&[3.0, 8.0]);
        assert!(w.iter().zip(&direct).all(|(a, b)| (a - b).abs() < 1e-6), "{w:?} {direct:?}");
    }
}
