"""Sites of a table: the records of each are brought to common levels by a profile of its own."""

import polars as pl

from models.profile import LEAST_RECORDS, Adaptation, Profile, ProfileError, learned_from
from models.schema import Matrix, Schema
from training.dataset.clocks import series_rows
from training.recipe import Recipe, RecipeError


def adapt_sites(matrix: Matrix, table: pl.DataFrame, schema: Schema, recipe: Recipe) -> Matrix:
    """Adapt records as the service does, each by the profile of the first ones of its site.

    A profile knows no labels. Its records are the first in time, or in the table if there are no
    times. Rows without a site stay as they are.

    Args:
        matrix: float32 [n, fields].
        table: the same rows, with the columns that name sites and time.
        schema: holds the common levels.
        recipe: names sites and time.

    Returns:
        float32 [n, fields].

    Raises:
        RecipeError: a site has too few rows, or no field has levels of its own.
    """
    adapted = matrix.copy()
    has_site = table.select(pl.all_horizontal(pl.col(recipe.sites).is_not_null())).to_series()
    for rows in series_rows(table, recipe.sites, recipe.time):
        if not has_site[int(rows[0])]:
            continue
        name = " / ".join(map(str, table.select(recipe.sites).row(int(rows[0]))))
        if len(rows) < LEAST_RECORDS:
            raise RecipeError(
                f"site {name} has {len(rows)} rows, and a profile needs {LEAST_RECORDS}: name "
                "other sites, or leave these rows out"
            )
        try:
            profile = Profile.learn(schema, matrix[rows[: learned_from(len(rows))]])
        except ProfileError as error:
            raise RecipeError(f"site {name}: {error}") from error
        adapted[rows] = Adaptation.of(profile, schema)(matrix[rows])
    return adapted
