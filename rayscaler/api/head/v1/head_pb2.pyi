import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATUS_UNSPECIFIED: _ClassVar[NodeStatus]
    NODE_STATUS_RUNNING: _ClassVar[NodeStatus]
    NODE_STATUS_DEAD: _ClassVar[NodeStatus]
    NODE_STATUS_IDLE: _ClassVar[NodeStatus]
    NODE_STATUS_DRAINING: _ClassVar[NodeStatus]

class DeathReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEATH_REASON_UNSPECIFIED: _ClassVar[DeathReason]
    DEATH_REASON_EXPECTED: _ClassVar[DeathReason]
    DEATH_REASON_UNEXPECTED: _ClassVar[DeathReason]
    DEATH_REASON_DRAINED_PREEMPTED: _ClassVar[DeathReason]
    DEATH_REASON_DRAINED_IDLE: _ClassVar[DeathReason]

class LabelOperator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_OPERATOR_UNSPECIFIED: _ClassVar[LabelOperator]
    LABEL_OPERATOR_IN: _ClassVar[LabelOperator]
    LABEL_OPERATOR_NOT_IN: _ClassVar[LabelOperator]

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_PACK: _ClassVar[Strategy]
    STRATEGY_SPREAD: _ClassVar[Strategy]
    STRATEGY_STRICT_PACK: _ClassVar[Strategy]
    STRATEGY_STRICT_SPREAD: _ClassVar[Strategy]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_DONE: _ClassVar[Outcome]
    OUTCOME_REJECTED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]

class DrainReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRAIN_REASON_UNSPECIFIED: _ClassVar[DrainReason]
    DRAIN_REASON_IDLE: _ClassVar[DrainReason]
    DRAIN_REASON_PREEMPTION: _ClassVar[DrainReason]

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
NODE_STATUS_UNSPECIFIED: NodeStatus
NODE_STATUS_RUNNING: NodeStatus
NODE_STATUS_DEAD: NodeStatus
NODE_STATUS_IDLE: NodeStatus
NODE_STATUS_DRAINING: NodeStatus
DEATH_REASON_UNSPECIFIED: DeathReason
DEATH_REASON_EXPECTED: DeathReason
DEATH_REASON_UNEXPECTED: DeathReason
DEATH_REASON_DRAINED_PREEMPTED: DeathReason
DEATH_REASON_DRAINED_IDLE: DeathReason
LABEL_OPERATOR_UNSPECIFIED: LabelOperator
LABEL_OPERATOR_IN: LabelOperator
LABEL_OPERATOR_NOT_IN: LabelOperator
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_PACK: Strategy
STRATEGY_SPREAD: Strategy
STRATEGY_STRICT_PACK: Strategy
STRATEGY_STRICT_SPREAD: Strategy
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_DONE: Outcome
OUTCOME_REJECTED: Outcome
OUTCOME_FAILED: Outcome
DRAIN_REASON_UNSPECIFIED: DrainReason
DRAIN_REASON_IDLE: DrainReason
DRAIN_REASON_PREEMPTION: DrainReason
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

class Death(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: DeathReason
    detail: str
    def __init__(self, reason: _Optional[_Union[DeathReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class Draining(_message.Message):
    __slots__ = ("deadline",)
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    deadline: _timestamp_pb2.Timestamp
    def __init__(self, deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("ray_node_id", "instance_id", "node_type", "status", "total", "available", "labels", "dynamic_labels", "idle", "activity", "is_head", "death", "draining")
    class TotalEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class AvailableEntry(_message.Message):
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
    class DynamicLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DYNAMIC_LABELS_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    IS_HEAD_FIELD_NUMBER: _ClassVar[int]
    DEATH_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    ray_node_id: str
    instance_id: str
    node_type: str
    status: NodeStatus
    total: _containers.ScalarMap[str, int]
    available: _containers.ScalarMap[str, int]
    labels: _containers.ScalarMap[str, str]
    dynamic_labels: _containers.ScalarMap[str, str]
    idle: _duration_pb2.Duration
    activity: _containers.RepeatedScalarFieldContainer[str]
    is_head: bool
    death: Death
    draining: Draining
    def __init__(self, ray_node_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., node_type: _Optional[str] = ..., status: _Optional[_Union[NodeStatus, str]] = ..., total: _Optional[_Mapping[str, int]] = ..., available: _Optional[_Mapping[str, int]] = ..., labels: _Optional[_Mapping[str, str]] = ..., dynamic_labels: _Optional[_Mapping[str, str]] = ..., idle: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., activity: _Optional[_Iterable[str]] = ..., is_head: bool = ..., death: _Optional[_Union[Death, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ...) -> None: ...

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

class Demand(_message.Message):
    __slots__ = ("bundle", "count")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    bundle: Bundle
    count: int
    def __init__(self, bundle: _Optional[_Union[Bundle, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class Gang(_message.Message):
    __slots__ = ("gang_id", "strategy", "bundles", "rescheduling", "orphaned")
    GANG_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    RESCHEDULING_FIELD_NUMBER: _ClassVar[int]
    ORPHANED_FIELD_NUMBER: _ClassVar[int]
    gang_id: str
    strategy: Strategy
    bundles: _containers.RepeatedCompositeFieldContainer[Demand]
    rescheduling: bool
    orphaned: bool
    def __init__(self, gang_id: _Optional[str] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., bundles: _Optional[_Iterable[_Union[Demand, _Mapping]]] = ..., rescheduling: bool = ..., orphaned: bool = ...) -> None: ...

class Constraint(_message.Message):
    __slots__ = ("demands",)
    DEMANDS_FIELD_NUMBER: _ClassVar[int]
    demands: _containers.RepeatedCompositeFieldContainer[Demand]
    def __init__(self, demands: _Optional[_Iterable[_Union[Demand, _Mapping]]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("nodes", "demands", "gangs", "constraint", "live_jobs", "gcs_version", "live_detached_actors", "live_job_ids")
    NODES_FIELD_NUMBER: _ClassVar[int]
    DEMANDS_FIELD_NUMBER: _ClassVar[int]
    GANGS_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    LIVE_JOBS_FIELD_NUMBER: _ClassVar[int]
    GCS_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIVE_DETACHED_ACTORS_FIELD_NUMBER: _ClassVar[int]
    LIVE_JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    demands: _containers.RepeatedCompositeFieldContainer[Demand]
    gangs: _containers.RepeatedCompositeFieldContainer[Gang]
    constraint: Constraint
    live_jobs: int
    gcs_version: int
    live_detached_actors: int
    live_job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., demands: _Optional[_Iterable[_Union[Demand, _Mapping]]] = ..., gangs: _Optional[_Iterable[_Union[Gang, _Mapping]]] = ..., constraint: _Optional[_Union[Constraint, _Mapping]] = ..., live_jobs: _Optional[int] = ..., gcs_version: _Optional[int] = ..., live_detached_actors: _Optional[int] = ..., live_job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

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

class DrainNode(_message.Message):
    __slots__ = ("ray_node_id", "reason", "detail", "deadline")
    RAY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    ray_node_id: str
    reason: DrainReason
    detail: str
    deadline: _timestamp_pb2.Timestamp
    def __init__(self, ray_node_id: _Optional[str] = ..., reason: _Optional[_Union[DrainReason, str]] = ..., detail: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReplayConstraint(_message.Message):
    __slots__ = ("constraint", "replaces")
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    constraint: Constraint
    replaces: Constraint
    def __init__(self, constraint: _Optional[_Union[Constraint, _Mapping]] = ..., replaces: _Optional[_Union[Constraint, _Mapping]] = ...) -> None: ...

class TellDrivers(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lines: _Optional[_Iterable[str]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("command_id", "drain_node", "replay_constraint", "tell_drivers")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    DRAIN_NODE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    TELL_DRIVERS_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    drain_node: DrainNode
    replay_constraint: ReplayConstraint
    tell_drivers: TellDrivers
    def __init__(self, command_id: _Optional[str] = ..., drain_node: _Optional[_Union[DrainNode, _Mapping]] = ..., replay_constraint: _Optional[_Union[ReplayConstraint, _Mapping]] = ..., tell_drivers: _Optional[_Union[TellDrivers, _Mapping]] = ...) -> None: ...

class PendingInstance(_message.Message):
    __slots__ = ("instance_id", "node_type", "detail", "since")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    node_type: str
    detail: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, instance_id: _Optional[str] = ..., node_type: _Optional[str] = ..., detail: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class FailedLaunch(_message.Message):
    __slots__ = ("node_type", "detail", "requested_at", "failed_at")
    NODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_FIELD_NUMBER: _ClassVar[int]
    node_type: str
    detail: str
    requested_at: _timestamp_pb2.Timestamp
    failed_at: _timestamp_pb2.Timestamp
    def __init__(self, node_type: _Optional[str] = ..., detail: _Optional[str] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AutoscalingState(_message.Message):
    __slots__ = ("version", "gcs_version", "requested", "pending", "failed", "infeasible", "infeasible_gangs")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GCS_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    INFEASIBLE_FIELD_NUMBER: _ClassVar[int]
    INFEASIBLE_GANGS_FIELD_NUMBER: _ClassVar[int]
    version: int
    gcs_version: int
    requested: _containers.RepeatedCompositeFieldContainer[PendingInstance]
    pending: _containers.RepeatedCompositeFieldContainer[PendingInstance]
    failed: _containers.RepeatedCompositeFieldContainer[FailedLaunch]
    infeasible: _containers.RepeatedCompositeFieldContainer[Bundle]
    infeasible_gangs: _containers.RepeatedCompositeFieldContainer[Gang]
    def __init__(self, version: _Optional[int] = ..., gcs_version: _Optional[int] = ..., requested: _Optional[_Iterable[_Union[PendingInstance, _Mapping]]] = ..., pending: _Optional[_Iterable[_Union[PendingInstance, _Mapping]]] = ..., failed: _Optional[_Iterable[_Union[FailedLaunch, _Mapping]]] = ..., infeasible: _Optional[_Iterable[_Union[Bundle, _Mapping]]] = ..., infeasible_gangs: _Optional[_Iterable[_Union[Gang, _Mapping]]] = ...) -> None: ...

class NodeGroupConfig(_message.Message):
    __slots__ = ("name", "resources", "min_count", "max_count")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    MIN_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    resources: _containers.ScalarMap[str, int]
    min_count: int
    max_count: int
    def __init__(self, name: _Optional[str] = ..., resources: _Optional[_Mapping[str, int]] = ..., min_count: _Optional[int] = ..., max_count: _Optional[int] = ...) -> None: ...

class ClusterConfig(_message.Message):
    __slots__ = ("hash", "min_resources", "max_resources", "node_groups")
    class MinResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class MaxResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    HASH_FIELD_NUMBER: _ClassVar[int]
    MIN_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NODE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    hash: str
    min_resources: _containers.ScalarMap[str, int]
    max_resources: _containers.ScalarMap[str, int]
    node_groups: _containers.RepeatedCompositeFieldContainer[NodeGroupConfig]
    def __init__(self, hash: _Optional[str] = ..., min_resources: _Optional[_Mapping[str, int]] = ..., max_resources: _Optional[_Mapping[str, int]] = ..., node_groups: _Optional[_Iterable[_Union[NodeGroupConfig, _Mapping]]] = ...) -> None: ...

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
    autoscaling_state: AutoscalingState
    next_interval: _duration_pb2.Duration
    want_snapshot: bool
    cluster_config: ClusterConfig
    driver_notice: str
    def __init__(self, commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., acknowledged: _Optional[_Iterable[str]] = ..., autoscaling_state: _Optional[_Union[AutoscalingState, _Mapping]] = ..., next_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., want_snapshot: bool = ..., cluster_config: _Optional[_Union[ClusterConfig, _Mapping]] = ..., driver_notice: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("cluster",)
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    def __init__(self, cluster: _Optional[str] = ...) -> None: ...

class NodeTypeStatus(_message.Message):
    __slots__ = ("name", "min_workers", "max_workers", "instances", "backoff_detail", "backoff_until")
    class InstancesEntry(_message.Message):
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
    name: str
    min_workers: int
    max_workers: int
    instances: _containers.ScalarMap[str, int]
    backoff_detail: str
    backoff_until: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., min_workers: _Optional[int] = ..., max_workers: _Optional[int] = ..., instances: _Optional[_Mapping[str, int]] = ..., backoff_detail: _Optional[str] = ..., backoff_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("hash", "taken_at", "problems")
    HASH_FIELD_NUMBER: _ClassVar[int]
    TAKEN_AT_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    hash: str
    taken_at: _timestamp_pb2.Timestamp
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hash: _Optional[str] = ..., taken_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class ClusterStatus(_message.Message):
    __slots__ = ("cluster", "session", "report_age", "blind", "blind_since", "cycle", "node_types", "instances", "pending", "actions", "head_incarnation", "hold", "notices", "ray_version", "definition")
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
    def __init__(self, cluster: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., report_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., blind: _Optional[str] = ..., blind_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cycle: _Optional[int] = ..., node_types: _Optional[_Iterable[_Union[NodeTypeStatus, _Mapping]]] = ..., instances: _Optional[_Iterable[_Union[InstanceStatus, _Mapping]]] = ..., pending: _Optional[_Iterable[_Union[PendingStatus, _Mapping]]] = ..., actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., head_incarnation: _Optional[str] = ..., hold: _Optional[_Union[Hold, _Mapping]] = ..., notices: _Optional[_Iterable[str]] = ..., ray_version: _Optional[str] = ..., definition: _Optional[_Union[DefinitionStatus, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("cluster", "at", "shapes", "nodes", "node_types")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NODE_TYPES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    at: _timestamp_pb2.Timestamp
    shapes: _containers.RepeatedCompositeFieldContainer[ShapeExplanation]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeExplanation]
    node_types: _containers.RepeatedCompositeFieldContainer[TypeExplanation]
    def __init__(self, cluster: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., shapes: _Optional[_Iterable[_Union[ShapeExplanation, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[NodeExplanation, _Mapping]]] = ..., node_types: _Optional[_Iterable[_Union[TypeExplanation, _Mapping]]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("clusters",)
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    clusters: _containers.RepeatedCompositeFieldContainer[ClusterExplanation]
    def __init__(self, clusters: _Optional[_Iterable[_Union[ClusterExplanation, _Mapping]]] = ...) -> None: ...
