"""What the API server's refusals mean; the words are those of real ones."""

import pytest

from rayscaler.errors import Busy, Conflict, Denied, InsufficientCapacity, InvalidRequest, NotFound, Unavailable
from rayscaler.k8s import failures
from rayscaler.k8s.objects import Failure, FailureDetails

pytestmark = pytest.mark.tier("unit")
RBAC = 'pods is forbidden: User "system:serviceaccount:ml:x" cannot create resource "pods" in API group "" in the namespace "ml"'
QUOTA = 'pods "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5'
SECURITY = 'pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
ENDING = 'pods "a" is forbidden: unable to create new content in namespace ml because it is being terminated'


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (400, "BadRequest", "", InvalidRequest),
        (401, "Unauthorized", "Unauthorized", Denied),
        (403, "Forbidden", RBAC, Denied),
        (403, "Forbidden", QUOTA, InsufficientCapacity),
        (403, "Forbidden", SECURITY, InvalidRequest),
        (403, "Forbidden", ENDING, Unavailable),
        (404, "NotFound", 'namespaces "ml" not found', NotFound),
        (409, "AlreadyExists", 'pods "a" already exists', failures.AlreadyExists),
        (409, "Conflict", "the UID in the precondition does not match", Busy),
        (410, "Expired", "too old resource version", failures.Expired),
        (422, "Invalid", 'Pod "a" is invalid: spec.containers[0].image: Required value', InvalidRequest),
        (429, "TooManyRequests", "", failures.Overloaded),
        (500, "InternalError", "etcdserver: no leader", Unavailable),
        (504, "Timeout", "", Unavailable),
    ],
)
def test_a_status_is_an_error_of_our_tree_with_the_servers_words(status, reason, message, kind):
    error = failures.of(status, Failure(status, reason, message), "create pods in ml")
    assert type(error) is kind
    assert str(error).startswith(f"create pods in ml: {message}")


def test_already_exists_is_a_conflict_until_the_spec_was_compared():
    assert issubclass(failures.AlreadyExists, Conflict)


@pytest.mark.parametrize(
    ("header", "details", "wait_s"),
    [("7", None, 7.0), (None, FailureDetails(retry_after_seconds=3), 3.0), (None, None, 1.0), ("soon", None, 1.0)],
)
def test_a_429_says_how_long_to_wait(header, details, wait_s):
    error = failures.of(429, Failure(details=details), "list pods in ml", header)
    assert isinstance(error, failures.Overloaded)
    assert error.retry_after_s == wait_s


def test_a_proxy_on_the_way_is_told_in_its_own_words():
    assert failures.read(b"<html>bad gateway\xff").message.startswith("<html>bad gateway")
