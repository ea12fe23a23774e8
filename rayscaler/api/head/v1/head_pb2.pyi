import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from rayscaler.api.gcs.v1 import gcs_pb2 as _gcs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LabelOperator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_OPERATOR_UNSPECIFIED: _ClassVar[LabelOperator]
    LABEL_OPERATOR_IN: _ClassVar[LabelOperator]
    LABEL_OPERATOR_NOT_IN: _ClassVar[LabelOperator]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_DONE: _ClassVar[Outcome]
    OUTCOME_REJECTED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]

class Mover(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOVER_UNSPECIFIED: _ClassVar[Mover]
    MOVER_NOBODY: _ClassVar[Mover]
    MOVER_USER: _ClassVar[Mover]
    MOVER_OPERATOR: _ClassVar[Mover]
    MOVER_WORLD: _ClassVar[Mover]

class DemandKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEMAND_KIND_UNSPECIFIED: _ClassVar[DemandKind]
    DEMAND_KIND_TASKS: _ClassVar[DemandKind]
    DEMAND_KIND_GANG: _ClassVar[DemandKind]
    DEMAND_KIND_CONSTRAINT: _ClassVar[DemandKind]
LABEL_OPERATOR_UNSPECIFIED: LabelOperator
LABEL_OPERATOR_IN: LabelOperator
LABEL_OPERATOR_NOT_IN: LabelOperator
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_DONE: Outcome
OUTCOME_REJECTED: Outcome
OUTCOME_FAILED: Outcome
MOVER_UNSPECIFIED: Mover
MOVER_NOBODY: Mover
MOVER_USER: Mover
MOVER_OPERATOR: Mover
MOVER_WORLD: Mover
DEMAND_KIND_UNSPECIFIED: DemandKind
DEMAND_KIND_TASKS: DemandKind
DEMAND_KIND_GANG: DemandKind
DEMAND_KIND_CONSTRAINT: DemandKind

class Session(_message.Message):
    __slots__ = ("cluster_id", "session_name")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    session_name: str
    def __init__(self, cluster_id: _Optional[str] = ..., session_name: _Optional[str] = ...) -> None: ...

class LabelCondition(_message.Message):
    __slots__ = ("key", "operator", "values")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    key: str
    operator: LabelOperator
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key: _Optional[str] = ..., operator: _Optional[_Union[LabelOperator, str]] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class LabelSelector(_message.Message):
    __slots__ = ("conditions",)
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    conditions: _containers.RepeatedCompositeFieldContainer[LabelCondition]
    def __init__(self, conditions: _Optional[_Iterable[_Union[LabelCondition, _Mapping]]] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("resources", "label_selectors")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTORS_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.ScalarMap[str, int]
    label_selectors: _containers.RepeatedCompositeFieldContainer[LabelSelector]
    def __init__(self, resources: _Optional[_Mapping[str, int]] = ..., label_selectors: _Optional[_Iterable[_Union[LabelSelector, _Mapping]]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("state", "ended", "draining", "jobs", "groups", "live_detached_actors")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    LIVE_DETACHED_ACTORS_FIELD_NUMBER: _ClassVar[int]
    state: _gcs_pb2.ClusterResourceState
    ended: _containers.RepeatedCompositeFieldContainer[_gcs_pb2.GcsNodeInfo]
    draining: _containers.RepeatedCompositeFieldContainer[_gcs_pb2.DrainingNode]
    jobs: _containers.RepeatedCompositeFieldContainer[_gcs_pb2.JobTableData]
    groups: _containers.RepeatedCompositeFieldContainer[_gcs_pb2.PlacementGroupTableData]
    live_detached_actors: int
    def __init__(self, state: _Optional[_Union[_gcs_pb2.ClusterResourceState, _Mapping]] = ..., ended: _Optional[_Iterable[_Union[_gcs_pb2.GcsNodeInfo, _Mapping]]] = ..., draining: _Optional[_Iterable[_Union[_gcs_pb2.DrainingNode, _Mapping]]] = ..., jobs: _Optional[_Iterable[_Union[_gcs_pb2.JobTableData, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[_gcs_pb2.PlacementGroupTableData, _Mapping]]] = ..., live_detached_actors: _Optional[int] = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("command_id", "outcome", "detail")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    outcome: Outcome
    detail: str
    def __init__(self, command_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class ReportDemandRequest(_message.Message):
    __slots__ = ("cluster", "session", "monitor_epoch", "sequence", "age", "snapshot", "base_sequence", "results", "reported_state_version", "ray_version", "gcs_error", "head_incarnation", "reported_config_hash", "v1_mode")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MONITOR_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    BASE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_STATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    RAY_VERSION_FIELD_NUMBER: _ClassVar[int]
    GCS_ERROR_FIELD_NUMBER: _ClassVar[int]
    HEAD_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REPORTED_CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    V1_MODE_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    session: Session
    monitor_epoch: int
    sequence: int
    age: _duration_pb2.Duration
    snapshot: Snapshot
    base_sequence: int
    results: _containers.RepeatedCompositeFieldContainer[CommandResult]
    reported_state_version: int
    ray_version: str
    gcs_error: str
    head_incarnation: str
    reported_config_hash: str
    v1_mode: bool
    def __init__(self, cluster: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., monitor_epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., base_sequence: _Optional[int] = ..., results: _Optional[_Iterable[_Union[CommandResult, _Mapping]]] = ..., reported_state_version: _Optional[int] = ..., ray_version: _Optional[str] = ..., gcs_error: _Optional[str] = ..., head_incarnation: _Optional[str] = ..., reported_config_hash: _Optional[str] = ..., v1_mode: bool = ...) -> None: ...

class ReplayConstraint(_message.Message):
    __slots__ = ("constraint", "replaces")
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    constraint: _gcs_pb2.ClusterResourceConstraint
    replaces: _gcs_pb2.ClusterResourceConstraint
    def __init__(self, constraint: _Optional[_Union[_gcs_pb2.ClusterResourceConstraint, _Mapping]] = ..., replaces: _Optional[_Union[_gcs_pb2.ClusterResourceConstraint, _Mapping]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("command_id", "drain_node", "replay_constraint", "tell_drivers", "resize_node")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    DRAIN_NODE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    TELL_DRIVERS_FIELD_NUMBER: _ClassVar[int]
    RESIZE_NODE_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    drain_node: _gcs_pb2.DrainNodeRequest
    replay_constraint: ReplayConstraint
    tell_drivers: _gcs_pb2.LogBatch
    resize_node: _gcs_pb2.ResizeRayletResourceInstancesRequest
    def __init__(self, command_id: _Optional[str] = ..., drain_node: _Optional[_Union[_gcs_pb2.DrainNodeRequest, _Mapping]] = ..., replay_constraint: _Optional[_Union[ReplayConstraint, _Mapping]] = ..., tell_drivers: _Optional[_Union[_gcs_pb2.LogBatch, _Mapping]] = ..., resize_node: _Optional[_Union[_gcs_pb2.ResizeRayletResourceInstancesRequest, _Mapping]] = ...) -> None: ...

class ClusterConfig(_message.Message):
    __slots__ = ("hash", "config")
    HASH_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    hash: str
    config: _gcs_pb2.ClusterConfig
    def __init__(self, hash: _Optional[str] = ..., config: _Optional[_Union[_gcs_pb2.ClusterConfig, _Mapping]] = ...) -> None: ...

class ReportDemandResponse(_message.Message):
    __slots__ = ("commands", "acknowledged", "autoscaling_state", "next_interval", "want_snapshot", "cluster_config", "driver_notice")
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    AUTOSCALING_STATE_FIELD_NUMBER: _ClassVar[int]
    NEXT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    WANT_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    DRIVER_NOTICE_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    acknowledged: _containers.RepeatedScalarFieldContainer[str]
    autoscaling_state: _gcs_pb2.AutoscalingState
    next_interval: _duration_pb2.Duration
    want_snapshot: bool
    cluster_config: ClusterConfig
    driver_notice: str
    def __init__(self, commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., acknowledged: _Optional[_Iterable[str]] = ..., autoscaling_state: _Optional[_Union[_gcs_pb2.AutoscalingState, _Mapping]] = ..., next_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., want_snapshot: bool = ..., cluster_config: _Optional[_Union[ClusterConfig, _Mapping]] = ..., driver_notice: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("cluster",)
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    def __init__(self, cluster: _Optional[str] = ...) -> None: ...

class NodeTypeStatus(_message.Message):
    __slots__ = ("name", "min_workers", "max_workers", "instances", "backoff_detail", "backoff_until", "failures")
    class InstancesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class FailuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MIN_WORKERS_FIELD_NUMBER: _ClassVar[int]
    MAX_WORKERS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_DETAIL_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_UNTIL_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    name: str
    min_workers: int
    max_workers: int
    instances: _containers.ScalarMap[str, int]
    backoff_detail: str
    backoff_until: _timestamp_pb2.Timestamp
    failures: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., min_workers: _Optional[int] = ..., max_workers: _Optional[int] = ..., instances: _Optional[_Mapping[str, int]] = ..., backoff_detail: _Optional[str] = ..., backoff_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failures: _Optional[_Mapping[str, int]] = ...) -> None: ...

class InstanceStatus(_message.Message):
    __slots__ = ("instance_id", "external_id", "ray_node_id", "node_type", "status", "since", "reason", "detail")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    external_id: str
    ray_node_id: str
    node_type: str
    status: str
    since: _timestamp_pb2.Timestamp
    reason: str
    detail: str
    def __init__(self, instance_id: _Optional[str] = ..., external_id: _Optional[str] = ..., ray_node_id: _Optional[str] = ..., node_type: _Optional[str] = ..., status: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class PendingStatus(_message.Message):
    __slots__ = ("shape", "count", "reason", "detail")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    shape: str
    count: int
    reason: str
    detail: str
    def __init__(self, shape: _Optional[str] = ..., count: _Optional[int] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Action(_message.Message):
    __slots__ = ("at", "kind", "instance_id", "node_type", "reason", "detail", "cycle")
    AT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CYCLE_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    kind: str
    instance_id: str
    node_type: str
    reason: str
    detail: str
    cycle: int
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[str] = ..., instance_id: _Optional[str] = ..., node_type: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., cycle: _Optional[int] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("since", "until", "targets")
    class TargetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    targets: _containers.ScalarMap[str, int]
    def __init__(self, since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., targets: _Optional[_Mapping[str, int]] = ...) -> None: ...

class DefinitionStatus(_message.Message):
    __slots__ = ("hash", "taken_at", "problems", "warnings")
    HASH_FIELD_NUMBER: _ClassVar[int]
    TAKEN_AT_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    hash: str
    taken_at: _timestamp_pb2.Timestamp
    problems: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hash: _Optional[str] = ..., taken_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problems: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class ClusterStatus(_message.Message):
    __slots__ = ("cluster", "session", "report_age", "blind", "blind_since", "cycle", "node_types", "instances", "pending", "actions", "head_incarnation", "hold", "notices", "ray_version", "definition", "mix")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REPORT_AGE_FIELD_NUMBER: _ClassVar[int]
    BLIND_FIELD_NUMBER: _ClassVar[int]
    BLIND_SINCE_FIELD_NUMBER: _ClassVar[int]
    CYCLE_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPES_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    HEAD_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    RAY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    MIX_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    session: Session
    report_age: _duration_pb2.Duration
    blind: str
    blind_since: _timestamp_pb2.Timestamp
    cycle: int
    node_types: _containers.RepeatedCompositeFieldContainer[NodeTypeStatus]
    instances: _containers.RepeatedCompositeFieldContainer[InstanceStatus]
    pending: _containers.RepeatedCompositeFieldContainer[PendingStatus]
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    head_incarnation: str
    hold: Hold
    notices: _containers.RepeatedScalarFieldContainer[str]
    ray_version: str
    definition: DefinitionStatus
    mix: MixExplanation
    def __init__(self, cluster: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., report_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., blind: _Optional[str] = ..., blind_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cycle: _Optional[int] = ..., node_types: _Optional[_Iterable[_Union[NodeTypeStatus, _Mapping]]] = ..., instances: _Optional[_Iterable[_Union[InstanceStatus, _Mapping]]] = ..., pending: _Optional[_Iterable[_Union[PendingStatus, _Mapping]]] = ..., actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., head_incarnation: _Optional[str] = ..., hold: _Optional[_Union[Hold, _Mapping]] = ..., notices: _Optional[_Iterable[str]] = ..., ray_version: _Optional[str] = ..., definition: _Optional[_Union[DefinitionStatus, _Mapping]] = ..., mix: _Optional[_Union[MixExplanation, _Mapping]] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("clusters",)
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    clusters: _containers.RepeatedCompositeFieldContainer[ClusterStatus]
    def __init__(self, clusters: _Optional[_Iterable[_Union[ClusterStatus, _Mapping]]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("cluster",)
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    def __init__(self, cluster: _Optional[str] = ...) -> None: ...

class Because(_message.Message):
    __slots__ = ("reason", "text", "detail", "since", "until", "mover")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    MOVER_FIELD_NUMBER: _ClassVar[int]
    reason: str
    text: str
    detail: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    mover: Mover
    def __init__(self, reason: _Optional[str] = ..., text: _Optional[str] = ..., detail: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., mover: _Optional[_Union[Mover, str]] = ...) -> None: ...

class OnTheWay(_message.Message):
    __slots__ = ("node_type", "nodes", "count", "until")
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    node_type: str
    nodes: int
    count: int
    until: _timestamp_pb2.Timestamp
    def __init__(self, node_type: _Optional[str] = ..., nodes: _Optional[int] = ..., count: _Optional[int] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ShapeExplanation(_message.Message):
    __slots__ = ("kind", "shape", "bundle", "gang_id", "count", "because", "on_the_way")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    GANG_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    ON_THE_WAY_FIELD_NUMBER: _ClassVar[int]
    kind: DemandKind
    shape: str
    bundle: Bundle
    gang_id: str
    count: int
    because: Because
    on_the_way: _containers.RepeatedCompositeFieldContainer[OnTheWay]
    def __init__(self, kind: _Optional[_Union[DemandKind, str]] = ..., shape: _Optional[str] = ..., bundle: _Optional[_Union[Bundle, _Mapping]] = ..., gang_id: _Optional[str] = ..., count: _Optional[int] = ..., because: _Optional[_Union[Because, _Mapping]] = ..., on_the_way: _Optional[_Iterable[_Union[OnTheWay, _Mapping]]] = ...) -> None: ...

class NodeExplanation(_message.Message):
    __slots__ = ("instance_id", "ray_node_id", "node_type", "status", "because")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    ray_node_id: str
    node_type: str
    status: str
    because: Because
    def __init__(self, instance_id: _Optional[str] = ..., ray_node_id: _Optional[str] = ..., node_type: _Optional[str] = ..., status: _Optional[str] = ..., because: _Optional[_Union[Because, _Mapping]] = ...) -> None: ...

class TypeExplanation(_message.Message):
    __slots__ = ("name", "running", "in_flight", "leaving", "min_workers", "max_workers", "because", "failures", "last_error")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    MIN_WORKERS_FIELD_NUMBER: _ClassVar[int]
    MAX_WORKERS_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    running: int
    in_flight: int
    leaving: int
    min_workers: int
    max_workers: int
    because: Because
    failures: int
    last_error: str
    def __init__(self, name: _Optional[str] = ..., running: _Optional[int] = ..., in_flight: _Optional[int] = ..., leaving: _Optional[int] = ..., min_workers: _Optional[int] = ..., max_workers: _Optional[int] = ..., because: _Optional[_Union[Because, _Mapping]] = ..., failures: _Optional[int] = ..., last_error: _Optional[str] = ...) -> None: ...

class ClusterExplanation(_message.Message):
    __slots__ = ("cluster", "at", "shapes", "nodes", "node_types", "definition", "mix")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPES_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    MIX_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    at: _timestamp_pb2.Timestamp
    shapes: _containers.RepeatedCompositeFieldContainer[ShapeExplanation]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeExplanation]
    node_types: _containers.RepeatedCompositeFieldContainer[TypeExplanation]
    definition: DefinitionStatus
    mix: MixExplanation
    def __init__(self, cluster: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., shapes: _Optional[_Iterable[_Union[ShapeExplanation, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[NodeExplanation, _Mapping]]] = ..., node_types: _Optional[_Iterable[_Union[TypeExplanation, _Mapping]]] = ..., definition: _Optional[_Union[DefinitionStatus, _Mapping]] = ..., mix: _Optional[_Union[MixExplanation, _Mapping]] = ...) -> None: ...

class MixExplanation(_message.Message):
    __slots__ = ("at", "cost", "bound", "gap", "steps", "improvement", "binds")
    AT_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    IMPROVEMENT_FIELD_NUMBER: _ClassVar[int]
    BINDS_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    cost: float
    bound: float
    gap: float
    steps: int
    improvement: str
    binds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cost: _Optional[float] = ..., bound: _Optional[float] = ..., gap: _Optional[float] = ..., steps: _Optional[int] = ..., improvement: _Optional[str] = ..., binds: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("clusters",)
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    clusters: _containers.RepeatedCompositeFieldContainer[ClusterExplanation]
    def __init__(self, clusters: _Optional[_Iterable[_Union[ClusterExplanation, _Mapping]]] = ...) -> None: ...
