"""Whether a model is served where a configuration says so: asked once, before anything runs that would need it."""

from __future__ import annotations

from turnwise.errors import UserError

CHECK_S = 10.0
"""Seconds for the question, which is asked twice."""


def check_served(model: str, base_url: str, *, key_env: str, api_key: str, field: str = "") -> None:
    """UserError unless an OpenAI-compatible endpoint answers and knows the model; it names keys, behind `field`."""
    import openai

    with openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=1, timeout=CHECK_S) as client:
        try:
            served = [str(one.id) for one in client.models.list()]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            problem = f"{base_url} refuses the key ({error.status_code})"
            raise UserError(f"{field}key_env", key_env, problem, "name the variable that holds a valid key") from error
        except (
            openai.NotFoundError,
            openai.APIResponseValidationError,
            AttributeError,
            TypeError,
            ValueError,
        ) as error:
            problem = f"no OpenAI-compatible endpoint: GET {base_url}/models fails ({type(error).__name__})"
            remedy = "give its address with the version, .../v1"
            raise UserError(f"{field}base_url", base_url, problem, remedy) from error
        except openai.OpenAIError as error:
            problem = f"no model answers there ({type(error).__name__}: {str(error)[:100]})"
            raise UserError(f"{field}base_url", base_url, problem, "start the server, or mend the address") from error
    if model not in served:
        known = ", ".join(sorted(served)[:10]) or "no model"
        raise UserError(f"{field}model", model, f"not served at {base_url}", f"it serves {known}")
