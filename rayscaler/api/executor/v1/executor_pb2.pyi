import datetime

from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_DRAIN_HINTS: _ClassVar[Capability]
    CAPABILITY_RESIZE: _ClassVar[Capability]
    CAPABILITY_OFFERS: _ClassVar[Capability]
    CAPABILITY_REPLICAS: _ClassVar[Capability]
    CAPABILITY_SUSPEND: _ClassVar[Capability]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_UNSCHEDULED: _ClassVar[Phase]
    PHASE_PULLING: _ClassVar[Phase]
    PHASE_STARTING: _ClassVar[Phase]
    PHASE_REGISTERING: _ClassVar[Phase]
    PHASE_ENDING: _ClassVar[Phase]
    PHASE_GONE: _ClassVar[Phase]

class Trouble(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TROUBLE_UNSPECIFIED: _ClassVar[Trouble]
    TROUBLE_UNSCHEDULABLE: _ClassVar[Trouble]
    TROUBLE_RETRIED: _ClassVar[Trouble]
    TROUBLE_HOPELESS: _ClassVar[Trouble]
    TROUBLE_GATED: _ClassVar[Trouble]
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_DRAIN_HINTS: Capability
CAPABILITY_RESIZE: Capability
CAPABILITY_OFFERS: Capability
CAPABILITY_REPLICAS: Capability
CAPABILITY_SUSPEND: Capability
PHASE_UNSPECIFIED: Phase
PHASE_UNSCHEDULED: Phase
PHASE_PULLING: Phase
PHASE_STARTING: Phase
PHASE_REGISTERING: Phase
PHASE_ENDING: Phase
PHASE_GONE: Phase
TROUBLE_UNSPECIFIED: Trouble
TROUBLE_UNSCHEDULABLE: Trouble
TROUBLE_RETRIED: Trouble
TROUBLE_HOPELESS: Trouble
TROUBLE_GATED: Trouble
SENSITIVE_FIELD_NUMBER: _ClassVar[int]
sensitive: _descriptor.FieldDescriptor
ALPHA_FIELD_FIELD_NUMBER: _ClassVar[int]
alpha_field: _descriptor.FieldDescriptor
ALPHA_METHOD_FIELD_NUMBER: _ClassVar[int]
alpha_method: _descriptor.FieldDescriptor
ALPHA_VALUE_FIELD_NUMBER: _ClassVar[int]
alpha_value: _descriptor.FieldDescriptor

class NodeType(_message.Message):
    __slots__ = ("name", "resources", "labels", "env", "start_params", "is_spot", "template", "hosts_per_replica")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class StartParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    START_PARAMS_FIELD_NUMBER: _ClassVar[int]
    IS_SPOT_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    HOSTS_PER_REPLICA_FIELD_NUMBER: _ClassVar[int]
    name: str
    resources: _containers.ScalarMap[str, int]
    labels: _containers.ScalarMap[str, str]
    env: _containers.ScalarMap[str, str]
    start_params: _containers.ScalarMap[str, str]
    is_spot: bool
    template: str
    hosts_per_replica: int
    def __init__(self, name: _Optional[str] = ..., resources: _Optional[_Mapping[str, int]] = ..., labels: _Optional[_Mapping[str, str]] = ..., env: _Optional[_Mapping[str, str]] = ..., start_params: _Optional[_Mapping[str, str]] = ..., is_spot: bool = ..., template: _Optional[str] = ..., hosts_per_replica: _Optional[int] = ...) -> None: ...

class RayStart(_message.Message):
    __slots__ = ("argv", "env", "not_inherited")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ARGV_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    NOT_INHERITED_FIELD_NUMBER: _ClassVar[int]
    argv: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    not_inherited: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, argv: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., not_inherited: _Optional[_Iterable[str]] = ...) -> None: ...

class LaunchSpec(_message.Message):
    __slots__ = ("instance_id", "node_type", "head_address", "ray_start", "replica_id", "replica_size", "replica_host")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RAY_START_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICA_SIZE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_HOST_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node_type: NodeType
    head_address: str
    ray_start: RayStart
    replica_id: str
    replica_size: int
    replica_host: int
    def __init__(self, instance_id: _Optional[str] = ..., node_type: _Optional[_Union[NodeType, _Mapping]] = ..., head_address: _Optional[str] = ..., ray_start: _Optional[_Union[RayStart, _Mapping]] = ..., replica_id: _Optional[str] = ..., replica_size: _Optional[int] = ..., replica_host: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("path", "value", "rule")
    PATH_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    path: str
    value: str
    rule: str
    def __init__(self, path: _Optional[str] = ..., value: _Optional[str] = ..., rule: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("reason", "message", "problems")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("instance_id", "node_type", "external_id", "phase", "detail", "observed_at", "error", "made_as", "trouble", "ends_at", "replica_id", "is_suspended", "replica_host", "size")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MADE_AS_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    IS_SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    REPLICA_HOST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node_type: str
    external_id: str
    phase: Phase
    detail: str
    observed_at: _timestamp_pb2.Timestamp
    error: str
    made_as: NodeType
    trouble: Trouble
    ends_at: _timestamp_pb2.Timestamp
    replica_id: str
    is_suspended: bool
    replica_host: int
    size: Size
    def __init__(self, instance_id: _Optional[str] = ..., node_type: _Optional[str] = ..., external_id: _Optional[str] = ..., phase: _Optional[_Union[Phase, str]] = ..., detail: _Optional[str] = ..., observed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ..., made_as: _Optional[_Union[NodeType, _Mapping]] = ..., trouble: _Optional[_Union[Trouble, str]] = ..., ends_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replica_id: _Optional[str] = ..., is_suspended: bool = ..., replica_host: _Optional[int] = ..., size: _Optional[_Union[Size, _Mapping]] = ...) -> None: ...

class Size(_message.Message):
    __slots__ = ("asked", "actual", "refusal")
    class AskedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ActualEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ASKED_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    asked: _containers.ScalarMap[str, int]
    actual: _containers.ScalarMap[str, int]
    refusal: str
    def __init__(self, asked: _Optional[_Mapping[str, int]] = ..., actual: _Optional[_Mapping[str, int]] = ..., refusal: _Optional[str] = ...) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ("rayscaler_version", "protocol_version")
    RAYSCALER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    rayscaler_version: str
    protocol_version: int
    def __init__(self, rayscaler_version: _Optional[str] = ..., protocol_version: _Optional[int] = ...) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("name", "version", "protocol_version", "manifest")
    class ManifestEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    protocol_version: int
    manifest: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., protocol_version: _Optional[int] = ..., manifest: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("capabilities", "limits")
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    limits: CallLimits
    def __init__(self, capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ..., limits: _Optional[_Union[CallLimits, _Mapping]] = ...) -> None: ...

class CallLimits(_message.Message):
    __slots__ = ("per_second", "in_flight", "batch")
    PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    per_second: int
    in_flight: int
    batch: int
    def __init__(self, per_second: _Optional[int] = ..., in_flight: _Optional[int] = ..., batch: _Optional[int] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProbeResponse(_message.Message):
    __slots__ = ("not_ready",)
    NOT_READY_FIELD_NUMBER: _ClassVar[int]
    not_ready: str
    def __init__(self, not_ready: _Optional[str] = ...) -> None: ...

class LaunchRequest(_message.Message):
    __slots__ = ("cluster", "specs", "supervisor")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    SUPERVISOR_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    specs: _containers.RepeatedCompositeFieldContainer[LaunchSpec]
    supervisor: str
    def __init__(self, cluster: _Optional[str] = ..., specs: _Optional[_Iterable[_Union[LaunchSpec, _Mapping]]] = ..., supervisor: _Optional[str] = ...) -> None: ...

class LaunchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[LaunchResult]
    def __init__(self, results: _Optional[_Iterable[_Union[LaunchResult, _Mapping]]] = ...) -> None: ...

class LaunchResult(_message.Message):
    __slots__ = ("instance_id", "external_id", "error")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    external_id: str
    error: Error
    def __init__(self, instance_id: _Optional[str] = ..., external_id: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class TerminateRequest(_message.Message):
    __slots__ = ("cluster", "instance_ids")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    instance_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster: _Optional[str] = ..., instance_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class TerminateResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TerminateResult]
    def __init__(self, results: _Optional[_Iterable[_Union[TerminateResult, _Mapping]]] = ...) -> None: ...

class TerminateResult(_message.Message):
    __slots__ = ("instance_id", "error")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    error: Error
    def __init__(self, instance_id: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("cluster", "page_size", "page_token")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    page_size: int
    page_token: str
    def __init__(self, cluster: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("observations", "next_page_token", "bookmark")
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_FIELD_NUMBER: _ClassVar[int]
    observations: _containers.RepeatedCompositeFieldContainer[Observation]
    next_page_token: str
    bookmark: str
    def __init__(self, observations: _Optional[_Iterable[_Union[Observation, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., bookmark: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("cluster", "bookmark")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    bookmark: str
    def __init__(self, cluster: _Optional[str] = ..., bookmark: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("observation", "bookmark", "further")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_FIELD_NUMBER: _ClassVar[int]
    FURTHER_FIELD_NUMBER: _ClassVar[int]
    observation: Observation
    bookmark: str
    further: _containers.RepeatedCompositeFieldContainer[Observation]
    def __init__(self, observation: _Optional[_Union[Observation, _Mapping]] = ..., bookmark: _Optional[str] = ..., further: _Optional[_Iterable[_Union[Observation, _Mapping]]] = ...) -> None: ...

class HintDrainRequest(_message.Message):
    __slots__ = ("cluster", "instance_id", "within")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    instance_id: str
    within: _duration_pb2.Duration
    def __init__(self, cluster: _Optional[str] = ..., instance_id: _Optional[str] = ..., within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HintDrainResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResizeRequest(_message.Message):
    __slots__ = ("cluster", "instance_id", "resources")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    instance_id: str
    resources: _containers.ScalarMap[str, int]
    def __init__(self, cluster: _Optional[str] = ..., instance_id: _Optional[str] = ..., resources: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ResizeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetOffersRequest(_message.Message):
    __slots__ = ("cluster", "node_types")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    node_types: _containers.RepeatedCompositeFieldContainer[NodeType]
    def __init__(self, cluster: _Optional[str] = ..., node_types: _Optional[_Iterable[_Union[NodeType, _Mapping]]] = ...) -> None: ...

class GetOffersResponse(_message.Message):
    __slots__ = ("offers",)
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    def __init__(self, offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("node_type", "price_per_hour", "available")
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRICE_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    node_type: str
    price_per_hour: int
    available: int
    def __init__(self, node_type: _Optional[str] = ..., price_per_hour: _Optional[int] = ..., available: _Optional[int] = ...) -> None: ...

class SuspendRequest(_message.Message):
    __slots__ = ("cluster", "instance_id")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    instance_id: str
    def __init__(self, cluster: _Optional[str] = ..., instance_id: _Optional[str] = ...) -> None: ...

class SuspendResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("cluster", "instance_id")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    instance_id: str
    def __init__(self, cluster: _Optional[str] = ..., instance_id: _Optional[str] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
