from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_SOURCE_ONLY: _ClassVar[Phase]
    PHASE_DUAL_WRITE: _ClassVar[Phase]
    PHASE_SHADOW_READ: _ClassVar[Phase]
    PHASE_SHIFT: _ClassVar[Phase]
    PHASE_CUTOVER: _ClassVar[Phase]
    PHASE_REVERSED: _ClassVar[Phase]
    PHASE_TARGET_ONLY: _ClassVar[Phase]
PHASE_UNSPECIFIED: Phase
PHASE_SOURCE_ONLY: Phase
PHASE_DUAL_WRITE: Phase
PHASE_SHADOW_READ: Phase
PHASE_SHIFT: Phase
PHASE_CUTOVER: Phase
PHASE_REVERSED: Phase
PHASE_TARGET_ONLY: Phase
